#!/usr/bin/env python3
"""Checkpoints as OpenAI released them, written by TensorFlow 1's own Saver.

    pip install tensorflow torch transformers && tests/data/openai/make.py

`release` is one shard of f32 under the prefix `model.ckpt`. `finetuned` is what a fine-tuning run
leaves: two shards, an optimizer's slots, a step counter, some variables as f16 and bf16, and a
prefix that the file `checkpoint` names. Each folder's `expected.json` has transformers' logits of
the last four positions on the same weights.
"""

import concurrent.futures
import json
import multiprocessing
import os
import pathlib
import shutil

HERE = pathlib.Path(__file__).resolve().parent
VOCABULARY = HERE.parent / "tokenizers/tok_slow_only"
HPARAMS = {"n_vocab": 300, "n_ctx": 32, "n_embd": 32, "n_head": 2, "n_layer": 2}
IDS = [40, 7, 261, 99, 0, 12, 255, 31, 180, 5, 77, 140]


def shapes():
    width = HPARAMS["n_embd"]
    yield "model/wpe", (HPARAMS["n_ctx"], width)
    yield "model/wte", (HPARAMS["n_vocab"], width)
    for layer in range(HPARAMS["n_layer"]):
        for norm in ("ln_1", "ln_2"):
            yield f"model/h{layer}/{norm}/g", (width,)
            yield f"model/h{layer}/{norm}/b", (width,)
        for name, columns, rows in (
            ("attn/c_attn", width, 3 * width),
            ("attn/c_proj", width, width),
            ("mlp/c_fc", width, 4 * width),
            ("mlp/c_proj", 4 * width, width),
        ):
            yield f"model/h{layer}/{name}/w", (1, columns, rows)
            yield f"model/h{layer}/{name}/b", (rows,)
    yield "model/ln_f/g", (width,)
    yield "model/ln_f/b", (width,)


def torch_name(name):
    path = name.removeprefix("model/").split("/")
    leaf = {"w": "weight", "g": "weight", "b": "bias"}
    if path[-1] in leaf:
        path[-1] = leaf[path[-1]]
    else:
        path.append("weight")
    if path[0][0] == "h":
        path[:1] = ["h", path[0][1:]]
    return "transformer." + ".".join(path)


def write(folder, prefix, finetuned):
    """Writes the checkpoint and returns its weights, as f32."""
    import numpy
    import tensorflow

    tf = tensorflow.compat.v1
    random = numpy.random.default_rng(len(prefix))
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    # Else the file `checkpoint` has the whole path.
    os.chdir(folder)
    types = {}
    if finetuned:
        types = {"model/h0/mlp/c_fc/w": tf.float16, "model/h1/attn/c_attn/w": tf.bfloat16}
    with tf.Graph().as_default():
        variables = {}
        for index, (name, shape) in enumerate(shapes()):
            value = random.normal(1 if name.endswith("/g") else 0, 0.2, shape)
            with tf.device(f"/cpu:{index % 2 if finetuned else 0}"):
                value = tf.cast(value, types.get(name, tf.float32))
                variables[name] = tf.get_variable(name, initializer=value, use_resource=False)
        if finetuned:
            some = [variables[name] for name in ("model/ln_f/g", "model/h0/attn/c_attn/b")]
            loss = sum(tf.reduce_sum(variable * 0.0) for variable in some)
            step = tf.train.get_or_create_global_step()
            tf.train.AdamOptimizer(1e-4).minimize(loss, step, some)
        saver = tf.train.Saver(sharded=finetuned, save_relative_paths=True)
        config = tf.ConfigProto(device_count={"CPU": 2})
        with tf.Session(config=config) as session:
            session.run(tf.global_variables_initializer())
            saver.save(session, prefix, 7 if finetuned else None, write_meta_graph=False)
            weights = {
                name: session.run(tf.cast(variable, tf.float32))
                for name, variable in variables.items()
            }
    (folder / "hparams.json").write_text(json.dumps(HPARAMS) + "\n")
    shutil.copy(VOCABULARY / "vocab.json", folder / "encoder.json")
    shutil.copy(VOCABULARY / "merges.txt", folder / "vocab.bpe")
    return weights


def expect(folder, weights):
    """Writes what transformers computes with the weights."""
    import torch
    import transformers

    config = transformers.GPT2Config(
        vocab_size=HPARAMS["n_vocab"], n_positions=HPARAMS["n_ctx"], n_embd=HPARAMS["n_embd"],
        n_head=HPARAMS["n_head"], n_layer=HPARAMS["n_layer"], attn_implementation="eager",
    )
    model = transformers.GPT2LMHeadModel(config).eval()
    state = {
        torch_name(name): torch.from_numpy(value.squeeze(0) if value.ndim == 3 else value)
        for name, value in weights.items()
    }
    state["lm_head.weight"] = state["transformer.wte.weight"]
    model.load_state_dict(state)
    with torch.no_grad():
        logits = model(torch.tensor([IDS])).logits[0, -4:]
    expected = {"ids": IDS, "logits": [[round(x, 6) for x in row] for row in logits.tolist()]}
    (folder / "expected.json").write_text(json.dumps(expected) + "\n")


def alone(function, *arguments):
    """Runs it in a process of its own: TensorFlow and PyTorch do not go together."""
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=spawn) as pool:
        return pool.submit(function, *arguments).result()


if __name__ == "__main__":
    for name, prefix, finetuned in (
        ("release", "model.ckpt", False), ("finetuned", "model", True)
    ):
        weights = alone(write, HERE / name, prefix, finetuned)
        alone(expect, HERE / name, weights)
