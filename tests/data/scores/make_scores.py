"""Writes scores.json: what transformers gives for the scores of texts with the demo model.

Run from the project's root: python tests/data/scores/make_scores.py
Needs torch, transformers 5, tokenizers. Nothing here is shared with the code under test.
"""

import json
from pathlib import Path

import torch
from transformers import AutoTokenizer, GPT2LMHeadModel

ROOT = Path(__file__).resolve().parents[3]
CHECKPOINT = ROOT / "models/austen-gpt2"
HELDOUT = (ROOT / "tests/data/austen/heldout.txt").read_text()

TEXTS = [
    "It is a truth universally acknowledged, that a single man in possession of a good fortune,"
    " must be in want of a wife.",
    "She was happy.",
    "a",
    "Mr. Bennet was so odd a mixture of quick parts, sarcastic humour, reserve, and caprice, that"
    " the experience of three-and-twenty years had been insufficient to make his wife understand"
    " his character.",
    "Déjà vu — naïve “quotes” and 日本語.",
    "  two  spaces\n\nand lines \n",
]
CONTEXT = "Elizabeth, having rather expected to affront him,"
CONTINUATIONS = [
    " was amazed at his gallantry;",
    " was",
    " flew over the moon and the stars and the sun without any reason at all.",
    "!",
]
TOP = 5
torch.set_num_threads(1)

model = GPT2LMHeadModel.from_pretrained(
    CHECKPOINT, dtype=torch.float32, attn_implementation="eager"
).eval()
tokenizer = AutoTokenizer.from_pretrained(CHECKPOINT)
POSITIONS = model.config.n_positions


def logits(rows):
    """Logits of rows of ids, right-padded into one batch with a mask."""
    width = max(map(len, rows))
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    mask = torch.zeros(len(rows), width, dtype=torch.long)
    for row, values in enumerate(rows):
        ids[row, : len(values)] = torch.tensor(values)
        mask[row, : len(values)] = 1
    with torch.no_grad():
        return model(input_ids=ids, attention_mask=mask).logits.double()


def score(rows, contexts):
    """Scores of rows after their contexts, all in one padded batch."""
    found = []
    batch = [context + row for context, row in zip(contexts, rows)]
    for values, row, context in zip(logits(batch), rows, contexts):
        one = {"ids": row, "logprobs": [], "ranks": [], "entropies": [], "top": []}
        for place, token in enumerate(row):
            before = len(context) + place - 1
            if before < 0:
                for name in ("logprobs", "ranks", "entropies", "top"):
                    one[name].append(None)
                continue
            logprobs = torch.log_softmax(values[before], -1)
            one["logprobs"].append(logprobs[token].item())
            one["ranks"].append(int((logprobs > logprobs[token]).sum()) + 1)
            one["entropies"].append(-(logprobs.exp() * logprobs).sum().item())
            best = logprobs.topk(TOP)
            one["top"].append(list(zip(best.indices.tolist(), best.values.tolist())))
        found.append(one)
    return found


def rolling(ids, most):
    """Log-probabilities of all tokens but the first, in the windows of lm-evaluation-harness:
    get_rolling_token_windows with a context of one token, the first token as prefix."""
    found, done = [], 0
    prefix, ids = ids[0], ids[1:]
    while done < len(ids):
        if done == 0:
            count = min(most, len(ids))
            window = [prefix] + ids[: count - 1]
        else:
            count = min(len(ids) - done, most)
            end = done + count
            window = ids[end - most - 1 : end - 1]
        values = torch.log_softmax(logits([window])[0], -1)
        for place, token in enumerate(ids[done : done + count]):
            found.append(values[len(window) - count + place, token].item())
        done += count
    return found


def strided(ids, window, stride):
    """The loop of transformers' guide "Perplexity of fixed-length models"."""
    nll_sum, tokens, previous = 0.0, 0, 0
    for begin in range(0, len(ids), stride):
        end = min(begin + window, len(ids))
        new = end - previous
        inputs = torch.tensor([ids[begin:end]])
        targets = inputs.clone()
        targets[:, :-new] = -100
        with torch.no_grad():
            loss = model(inputs, labels=targets).loss.double()
        count = int((targets != -100).sum()) - 1
        nll_sum += (loss * count).item()
        tokens += count
        previous = end
        if end == len(ids):
            break
    return {"window": window, "stride": stride, "nll_sum": nll_sum, "tokens": tokens}


def disjoint(ids, window):
    """Full windows, each on its tokens after the first."""
    nll_sum, tokens = 0.0, 0
    for begin in range(0, len(ids) - window + 1, window):
        inputs = torch.tensor([ids[begin : begin + window]])
        with torch.no_grad():
            loss = model(inputs, labels=inputs).loss.double()
        nll_sum += (loss * (window - 1)).item()
        tokens += window - 1
    return {"window": window, "stride": None, "nll_sum": nll_sum, "tokens": tokens}


def ids_of(text):
    return tokenizer(text).input_ids


rows = [ids_of(text) for text in TEXTS]
after = [ids_of(text) for text in CONTINUATIONS]
context = ids_of(CONTEXT)
bos = [tokenizer.bos_token_id]
long = ids_of(HELDOUT[:4000])
assert len(long) > POSITIONS + 100
part = ids_of(HELDOUT[:6000])
short = ids_of(HELDOUT[:300])

document = {
    "texts": {"texts": TEXTS, "rows": score(rows, [[]] * len(rows))},
    "bos": {"texts": TEXTS, "rows": score(rows, [bos] * len(rows))},
    "context": {
        "context": CONTEXT,
        "texts": CONTINUATIONS,
        "rows": score(after, [context] * len(after)),
    },
    "rolling": {"characters": 4000, "ids": long, "logprobs": rolling(long, POSITIONS)},
    "perplexity": {
        "characters": 6000,
        "figures": [
            strided(part, 512, 512),
            strided(part, 512, 256),
            strided(part, 64, 48),
            strided(part, 100, 37),
            disjoint(part, 512),
            disjoint(part, 50),
        ],
    },
    "short": {
        "characters": 300,
        "figures": [strided(short, 512, 512), disjoint(short, len(short))],
    },
}
path = Path(__file__).with_name("scores.json")
path.write_text(json.dumps(document, ensure_ascii=False, indent=None) + "\n")
print(path, path.stat().st_size, "bytes")
