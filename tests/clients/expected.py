"""Writes expected.json: what transformers gives for the texts of texts.jsonl, as
lm-evaluation-harness scores them. Needs torch and transformers:

    python tests/clients/expected.py
"""

import json
import pathlib

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

HERE = pathlib.Path(__file__).parent
FOLDER = HERE / "../../models/austen-gpt2"


def main():
    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(FOLDER)
    model = AutoModelForCausalLM.from_pretrained(FOLDER, dtype=torch.float32).eval()

    def ids(text):
        return tokenizer(text, add_special_tokens=False)["input_ids"]

    def log_probability(context, continuation):
        tokens = torch.tensor([context + continuation])
        with torch.no_grad():
            scores = model(tokens).logits[0].double().log_softmax(-1)
        first = len(context)
        chosen = [
            scores[first + index - 1, token].item() for index, token in enumerate(continuation)
        ]
        best = scores[first - 1 : -1].argmax(-1).tolist() == continuation
        return sum(chosen), best

    choices, rolling = [], []
    for line in (HERE / "texts.jsonl").read_text().splitlines():
        row = json.loads(line)
        for choice in row["c"]:
            # The harness puts a space between the two, and cuts the whole into tokens.
            whole, context = ids(row["q"] + " " + choice), ids(row["q"])
            sum_, greedy = log_probability(context, whole[len(context) :])
            choices.append([sum_, greedy])
        rolling.append(log_probability([tokenizer.eos_token_id], ids(row["q"]))[0])
    expected = {"choices": choices, "rolling": rolling}
    (HERE / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")


main()
