#!/usr/bin/env python3
"""Checkpoints as nanoGPT, its relatives and llm.c write them, by code of their own.

    pip install torch transformers numpy && tests/data/checkpoints/make.py

The model here is a GPT of linear layers, written after the papers and none of transformers' code;
`expected*.json` holds transformers' logits of the last four positions on the same weights.

- `nanogpt/ckpt.pt`: what nanoGPT's train.py saves: a compiled model without biases, a padded
  vocabulary, AdamW's state, the settings. Exact GELU.
- `nanogpt/older.pt`: sizes without `bias`, as before January 2023: GELU by tanh, biases, the mask
  among the weights.
- `nanogpt/meta.pkl`: the characters of its first example.
- `nanogpt/object.pt`: sizes in an object of a class of the script, as build-nanogpt saves them.
- `lightning/last.ckpt`: a trainer's checkpoint around the same model; the sizes are in a
  config.json beside it. `lightning/state.pkl`: its state dict by `pickle.dump`.
- `llm_c/f32.bin`, `llm_c/bf16.bin`: versions 3 and 5 of llm.c's file.
"""

import collections
import copy
import json
import math
import pathlib
import pickle
import shutil
import string
import struct

import numpy
import torch
from torch import nn
from torch.nn import functional

HERE = pathlib.Path(__file__).resolve().parent
TOKENIZER = HERE.parent / "tokenizers/tok_slow_only"
IDS = [40, 7, 261, 99, 0, 12, 255, 31, 180, 5, 77, 140]


class GPTConfig:
    """The sizes; build-nanogpt pickles such an object."""

    def __init__(self, **sizes):
        self.__dict__.update(sizes)


class Norm(nn.Module):
    def __init__(self, width, bias):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width) + 0.3 * torch.randn(width))
        self.bias = nn.Parameter(0.3 * torch.randn(width)) if bias else None

    def forward(self, x):
        return functional.layer_norm(x, self.weight.shape, self.weight, self.bias, 1e-5)


class Attention(nn.Module):
    def __init__(self, width, heads, bias):
        super().__init__()
        self.heads = heads
        self.c_attn = nn.Linear(width, 3 * width, bias=bias)
        self.c_proj = nn.Linear(width, width, bias=bias)

    def forward(self, x):
        batch, length, width = x.shape
        split = lambda part: part.view(batch, length, self.heads, -1).transpose(1, 2)
        q, k, v = map(split, self.c_attn(x).split(width, dim=2))
        scores = q @ k.transpose(2, 3) / math.sqrt(width // self.heads)
        mask = torch.ones(length, length, dtype=torch.bool).tril()
        mixed = scores.masked_fill(~mask, -math.inf).softmax(-1) @ v
        return self.c_proj(mixed.transpose(1, 2).reshape(batch, length, width))


class MLP(nn.Module):
    def __init__(self, width, bias, approximate):
        super().__init__()
        self.c_fc = nn.Linear(width, 4 * width, bias=bias)
        self.gelu = nn.GELU(approximate=approximate)
        self.c_proj = nn.Linear(4 * width, width, bias=bias)

    def forward(self, x):
        return self.c_proj(self.gelu(self.c_fc(x)))


class Block(nn.Module):
    def __init__(self, width, heads, bias, approximate):
        super().__init__()
        self.ln_1 = Norm(width, bias)
        self.attn = Attention(width, heads, bias)
        self.ln_2 = Norm(width, bias)
        self.mlp = MLP(width, bias, approximate)

    def forward(self, x):
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class GPT(nn.Module):
    def __init__(self, vocabulary, positions, width, layers, heads, bias, approximate):
        super().__init__()
        self.transformer = nn.ModuleDict(
            {
                "wte": nn.Embedding(vocabulary, width),
                "wpe": nn.Embedding(positions, width),
                "h": nn.ModuleList(
                    Block(width, heads, bias, approximate) for _ in range(layers)
                ),
                "ln_f": Norm(width, bias),
            }
        )
        self.lm_head = nn.Linear(width, vocabulary, bias=False)
        self.lm_head.weight = self.transformer["wte"].weight
        # Large enough that the two forms of GELU differ in the logits.
        for name, parameter in self.named_parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=0.6)
            elif "ln_" not in name:
                nn.init.normal_(parameter, std=0.3)

    def forward(self, ids):
        parts = self.transformer
        x = parts["wte"](ids) + parts["wpe"](torch.arange(ids.shape[1]))
        for block in parts["h"]:
            x = block(x)
        return self.lm_head(parts["ln_f"](x))


def sizes(gpt):
    parts = gpt.transformer
    vocabulary, width = parts["wte"].weight.shape
    return {
        "n_layer": len(parts["h"]),
        "n_head": parts["h"][0].attn.heads,
        "n_embd": width,
        "block_size": parts["wpe"].weight.shape[0],
        "vocab_size": vocabulary,
    }


def reference(gpt, activation):
    """transformers' model with the same weights, and its configuration."""
    import transformers

    own = sizes(gpt)
    config = transformers.GPT2Config(
        vocab_size=own["vocab_size"],
        n_positions=own["block_size"],
        n_embd=own["n_embd"],
        n_layer=own["n_layer"],
        n_head=own["n_head"],
        activation_function=activation,
        bos_token_id=0,
        eos_token_id=0,
    )
    model = transformers.GPT2LMHeadModel(config).eval()
    state = gpt.state_dict()
    turned = ("c_attn.weight", "c_proj.weight", "c_fc.weight")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            value = state.get(name, torch.zeros_like(parameter))
            parameter.copy_(value.t() if name.endswith(turned) else value)
    return model


def logits(gpt, activation):
    """transformers' logits of the last positions; this file's own must be the same, and the other
    activation's must not."""
    ids = torch.tensor([IDS])
    with torch.no_grad():
        found = reference(gpt, activation)(ids).logits[0]
        own = (gpt(ids)[0] - found).abs().max()
        other = "gelu" if activation == "gelu_new" else "gelu_new"
        apart = (reference(gpt, other)(ids).logits[0] - found).abs().max()
    print(f"own code {own:.1e}, other activation {apart:.1e}")
    assert own < 2e-5 and apart > 2e-4
    return [[round(value, 6) for value in row] for row in found[-4:].tolist()]


def expect(path, gpt, activation):
    path.write_text(json.dumps({"ids": IDS, "logits": logits(gpt, activation)}) + "\n")


def nanogpt():
    folder = HERE / "nanogpt"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()

    gpt = GPT(320, 16, 8, 2, 2, bias=False, approximate="none")
    optimizer = torch.optim.AdamW(gpt.parameters(), lr=1e-3, betas=(0.9, 0.95))
    gpt(torch.tensor([IDS])).logsumexp(-1).mean().backward()
    optimizer.step()
    settings = {"out_dir": "out", "learning_rate": 6e-4, "n_head": 12, "compile": True}
    checkpoint = {
        "model": collections.OrderedDict(
            ("_orig_mod." + name, value) for name, value in gpt.state_dict().items()
        ),
        "optimizer": optimizer.state_dict(),
        "model_args": {**sizes(gpt), "bias": False, "dropout": 0.0},
        "iter_num": 1,
        "best_val_loss": torch.tensor(2.5),
        "config": settings,
    }
    torch.save(checkpoint, folder / "ckpt.pt")
    expect(folder / "ckpt.json", gpt, "gelu")

    gpt = GPT(304, 16, 16, 2, 2, bias=True, approximate="tanh")
    state = gpt.state_dict()
    mask = torch.ones(16, 16).tril().view(1, 1, 16, 16)
    for layer in range(2):
        state[f"transformer.h.{layer}.attn.bias"] = mask
    older = {"model": state, "model_args": {**sizes(gpt), "dropout": 0.1}, "iter_num": 7}
    torch.save(older, folder / "older.pt", _use_new_zipfile_serialization=False)
    expect(folder / "older.json", gpt, "gelu_new")

    gpt = GPT(304, 16, 16, 2, 4, bias=True, approximate="tanh")
    as_object = {
        "model": gpt.state_dict(),
        "config": GPTConfig(**sizes(gpt)),
        "step": 250,
        "val_loss": numpy.float64(3.25),
    }
    torch.save(as_object, folder / "object.pt")
    expect(folder / "object.json", gpt, "gelu_new")

    # As nanoGPT's data/shakespeare_char/prepare.py writes it.
    characters = sorted(set("\n !,.:;?'-" + string.ascii_letters))
    meta = {
        "vocab_size": len(characters),
        "itos": dict(enumerate(characters)),
        "stoi": {character: number for number, character in enumerate(characters)},
    }
    with open(folder / "meta.pkl", "wb") as file:
        pickle.dump(meta, file)

    trainer = {
        "epoch": 3,
        "global_step": 120,
        "pytorch-lightning_version": "2.4.0",
        "state_dict": collections.OrderedDict(
            ("model.module." + name, value) for name, value in gpt.state_dict().items()
        ),
        "optimizer_states": [{"state": {0: {"step": torch.tensor(9.0)}}, "param_groups": []}],
        "lr_schedulers": [],
        "callbacks": {"ModelCheckpoint": {"best_model_path": pathlib.PurePosixPath("a/b")}},
    }
    lightning = HERE / "lightning"
    shutil.rmtree(lightning, ignore_errors=True)
    lightning.mkdir()
    torch.save(trainer, lightning / "last.ckpt")
    reference(gpt, "gelu_new").config.save_pretrained(lightning)
    expect(lightning / "last.json", gpt, "gelu_new")
    with open(lightning / "state.pkl", "wb") as file:
        pickle.dump(gpt.state_dict(), file)
    shutil.copy(lightning / "last.json", lightning / "state.json")


def llm_c():
    """The layout of llm.c: a header of 256 integers, the embedding padded to a multiple of 128,
    each module of all layers at once."""
    folder = HERE / "llm_c"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    gpt = GPT(300, 16, 16, 2, 2, bias=True, approximate="tanh")
    for name, version, dtype in (("f32", 3, torch.float32), ("bf16", 5, torch.bfloat16)):
        model = copy.deepcopy(gpt)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(parameter.to(dtype).float())
        state = model.state_dict()
        own = sizes(model)
        padded = -(-own["vocab_size"] // 128) * 128
        header = numpy.zeros(256, dtype="<i4")
        header[:8] = [
            20240326, version, own["block_size"], own["vocab_size"], own["n_layer"],
            own["n_head"], own["n_embd"], padded,
        ]
        wte = functional.pad(state["transformer.wte.weight"], (0, 0, 0, padded - 300))
        parts = [wte, state["transformer.wpe.weight"]]
        for module in ("ln_1", "attn.c_attn", "attn.c_proj", "ln_2", "mlp.c_fc", "mlp.c_proj"):
            for part in ("weight", "bias"):
                for layer in range(own["n_layer"]):
                    parts.append(state[f"transformer.h.{layer}.{module}.{part}"])
        parts += [state["transformer.ln_f.weight"], state["transformer.ln_f.bias"]]
        body = b"".join(
            part.to(dtype).contiguous().view(torch.uint8).numpy().tobytes() for part in parts
        )
        (folder / f"{name}.bin").write_bytes(header.tobytes() + body)
        expect(folder / f"{name}.json", model, "gelu_new")
    assert struct.unpack("<I", (folder / "f32.bin").read_bytes()[:4]) == (20240326,)


if __name__ == "__main__":
    torch.manual_seed(19)
    nanogpt()
    llm_c()
