#!/usr/bin/env python3
"""Adapters written by PEFT over `tests/data/heads/lm_sharded`, and what the model then computes.

    pip install torch transformers peft && tests/data/lora/make.py

Each `expected.json` has the logits of the last four positions of the model as PEFT runs it, and for
which adapters, with which scales.
"""

import json
import pathlib
import shutil

import peft
import torch
import transformers

HERE = pathlib.Path(__file__).resolve().parent
BASE = HERE.parent / "heads/lm_sharded"
IDS = [40, 7, 261, 99, 0, 12, 255, 31, 180, 5, 77, 140]

ADAPTERS = {
    # The usual: two projections of every layer.
    "plain": {"r": 4, "lora_alpha": 8, "target_modules": ["c_attn", "mlp.c_proj"]},
    # Every setting that changes the arithmetic, biases, a module that is saved whole.
    "patterns": {
        "r": 3, "lora_alpha": 5, "use_rslora": True, "bias": "all",
        "target_modules": ["c_attn", "c_fc", "attn.c_proj"],
        "rank_pattern": {"h.1.attn.c_attn": 2}, "alpha_pattern": {r"h\.0\.mlp\.c_fc": 9},
        "modules_to_save": ["ln_f"],
    },
    # Magnitudes of rows beside directions.
    "dora": {"r": 2, "lora_alpha": 6, "use_dora": True, "target_modules": ["c_attn", "mlp.c_proj"]},
    # Embeddings; the head, which the base ties to one of them, is not adapted.
    "embeddings": {"r": 2, "lora_alpha": 4, "target_modules": ["wte", "wpe"]},
    # The head; the token embedding, which the base ties to it, is not adapted.
    "head": {"r": 2, "lora_alpha": 4, "lora_bias": False, "target_modules": ["lm_head"]},
    # A larger vocabulary: both matrices are saved whole.
    "resized": {"r": 2, "lora_alpha": 4, "target_modules": ["c_fc"]},
    # Biases of the adapter itself.
    "biases": {"r": 2, "lora_alpha": 4, "lora_bias": True, "target_modules": ["c_attn"]},
}
# Several at once, each with a scale.
TOGETHER = {"plain": 0.5, "biases": -1.5}


def randomize(model):
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            parameter.data += torch.randn(parameter.shape) * 0.1


def logits(model):
    with torch.no_grad():
        rows = model.eval()(torch.tensor([IDS])).logits[0, -4:]
    return [[round(x, 6) for x in row] for row in rows.tolist()]


def base():
    return transformers.GPT2LMHeadModel.from_pretrained(BASE, attn_implementation="eager")


def write(name, settings):
    torch.manual_seed(sum(map(ord, name)))
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    model = base()
    if name == "resized":
        model.resize_token_embeddings(303)
    config = peft.LoraConfig(
        fan_in_fan_out=name != "head", init_lora_weights=False, task_type="CAUSAL_LM", **settings
    )
    model = peft.get_peft_model(model, config)
    randomize(model)
    if name == "resized":
        model.get_input_embeddings().weight.data += torch.randn(303, 1) * 0.1
        model.save_pretrained(folder, save_embedding_layers=True)
    else:
        model.save_pretrained(folder, save_embedding_layers=False)
    expected = {"ids": IDS, "adapters": {name: 1}, "logits": logits(model)}
    (folder / "expected.json").write_text(json.dumps(expected) + "\n")
    # The path of the machine that it was made on, and a text about nothing.
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text())
    config["base_model_name_or_path"] = "lm_sharded"
    path.write_text(json.dumps(config, indent=2) + "\n")
    (folder / "README.md").unlink(missing_ok=True)


def write_together():
    first, *others = TOGETHER
    model = peft.PeftModel.from_pretrained(base(), HERE / first, adapter_name=first)
    for other in others:
        model.load_adapter(HERE / other, adapter_name=other)
    model.base_model.set_adapter(list(TOGETHER))
    for module in model.modules():
        for name, scale in TOGETHER.items():
            if isinstance(module, peft.tuners.lora.LoraLayer) and name in module.scaling:
                module.set_scale(name, scale)
    folder = HERE / "together"
    folder.mkdir(exist_ok=True)
    expected = {"ids": IDS, "adapters": TOGETHER, "logits": logits(model)}
    (folder / "expected.json").write_text(json.dumps(expected) + "\n")


def write_classifier():
    torch.manual_seed(5)
    folder = HERE / "classifier"
    shutil.rmtree(folder, ignore_errors=True)
    model = transformers.GPT2ForSequenceClassification.from_pretrained(
        BASE, attn_implementation="eager", num_labels=3
    )
    config = peft.LoraConfig(
        r=2, fan_in_fan_out=True, init_lora_weights=False, task_type="SEQ_CLS",
        target_modules=["c_attn"],
    )
    model = peft.get_peft_model(model, config)
    randomize(model)
    model.save_pretrained(folder)
    with torch.no_grad():
        scores = model.eval()(torch.tensor([IDS])).logits[0].tolist()
    expected = {"ids": IDS, "adapters": {"classifier": 1}, "scores": scores}
    (folder / "expected.json").write_text(json.dumps(expected) + "\n")
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text())
    config["base_model_name_or_path"] = "lm_sharded"
    path.write_text(json.dumps(config, indent=2) + "\n")
    (folder / "README.md").unlink(missing_ok=True)


for name, settings in ADAPTERS.items():
    write(name, settings)
write_together()
write_classifier()
