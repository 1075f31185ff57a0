"""Writes folders.json: random tokenizer folders and what transformers makes of them.

Usage: python make_folders.py [SEED] [COUNT] [OUTPUT] (needs the Python packages transformers and
tokenizers; the file was made with transformers 5.24 and tokenizers 0.23.3, seed 19, 60 folders).

A case holds the files of a folder; to keep the file small, vocab.json and tokenizer.json are said
by what they have beyond the vocabulary that stands once at its top. Folders that transformers
refuses are left out, except for byte order marks: those cases were run without the marks.
"""

import json
import random
import sys
import tempfile
from pathlib import Path

import transformers

HERE = Path(__file__).parent
MARKER = "<|endoftext|>"
MERGES = [
    "h e", "l l", "he ll", "hell o", "Ġ w", "o r", "Ġw or", "l d", "Ġwor ld", "Ġ t", "Ġt he", "# #",
]
NAMES = [MARKER, "<s>", "</s>", "<pad>", "[SEP]", "<x>", "<xy>", "hello", "<|im_start|>", "a b"]
NAMES.append("ü")
CLASSES = ["GPT2Tokenizer", "GPT2TokenizerFast", "PreTrainedTokenizerFast"]
ROLES = ["bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token", "mask_token"]
TEXTS = [
    "hello world",
    " hello<|endoftext|> the<s></s>x",
    "<pad>  [SEP] hello <x> <xy><x>y",
    "a b<|im_start|>ü a  b ##\n<extra>",
    "<|endoftext|>",
    "",
]


def alphabet():
    kept = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in kept]
    return [chr(byte) for byte in kept] + [chr(256 + place) for place in range(len(others))]


def vocabulary():
    merged = [merge.replace(" ", "") for merge in MERGES]
    tokens = alphabet() + merged + [MARKER]
    return {token: place for place, token in enumerate(tokens)}


def flags(rng, special):
    described = {name: rng.random() < 0.2 for name in ("single_word", "lstrip", "rstrip")}
    return {**described, "normalized": rng.random() < 0.3, "special": special}


def named(rng, config):
    """A token as tokenizer_config.json or special_tokens_map.json says it."""
    content = rng.choice(NAMES)
    if rng.random() < 0.6:
        return content
    described = {"content": content, **flags(rng, rng.random() < 0.5)}
    if config:
        described["__type"] = "AddedToken"
    else:
        del described["special"]
    return described


def whole(rng, tokens):
    added = []
    next_id = len(tokens)
    for content in rng.sample(NAMES, rng.randrange(5)):
        place = tokens.get(content)
        if place is None:
            place, next_id = next_id, next_id + 1
        added.append({"id": place, "content": content, **flags(rng, rng.random() < 0.7)})
    added.sort(key=lambda token: token["id"])
    # Twice, or another id than it gets: at the end, where the order of all stays the same.
    if added and rng.random() < 0.2:
        added.append({**rng.choice(added), "id": next_id + 1})
    elif added and rng.random() < 0.2:
        added[-1]["id"] += rng.randrange(1, 4)
    processor = None
    if rng.random() < 0.3:
        token = rng.choice(sorted(tokens))
        defined = {token: {"id": token, "ids": [tokens[token]], "tokens": [token]}}
        special = {"SpecialToken": {"id": token, "type_id": 0}}
        text = {"Sequence": {"id": "A", "type_id": 0}}
        second = {"Sequence": {"id": "B", "type_id": 1}}
        processor = {
            "type": "TemplateProcessing",
            "single": [special, text],
            "pair": [special, text, second],
            "special_tokens": defined,
        }
    elif rng.random() < 0.7:
        processor = {"type": "ByteLevel", "trim_offsets": False, "use_regex": True}
        processor["add_prefix_space"] = True
    made = {"added_tokens": added, "post_processor": processor}
    return {**made, "add_prefix_space": rng.random() < 0.3}


def config(rng, tokens):
    made = {}
    if rng.random() < 0.6:
        made["tokenizer_class"] = rng.choice(CLASSES)
    for flag in ("add_bos_token", "add_eos_token", "add_prefix_space", "split_special_tokens"):
        if rng.random() < 0.25:
            made[flag] = rng.random() < 0.7
    for role in ROLES:
        if rng.random() < 0.3:
            made[role] = None if rng.random() < 0.1 else named(rng, True)
    for name in ("additional_special_tokens", "extra_special_tokens"):
        if rng.random() < 0.2:
            made[name] = [named(rng, True) for _ in range(rng.randrange(3))]
    if rng.random() < 0.1:
        made["extra_special_tokens"] = {"image_token": rng.choice(NAMES)}
    if rng.random() < 0.1:
        made["audio_token"] = rng.choice(NAMES)
    if rng.random() < 0.3:
        made["errors"] = rng.choice(["replace", "ignore"])
    if rng.random() < 0.3:
        made["model_max_length"] = rng.choice([1024, 1000000000000000019884624838656])
    if rng.random() < 0.4:
        decoder = {}
        next_id = len(tokens)
        for content in rng.sample(NAMES, rng.randrange(5)):
            place = tokens.get(content)
            if place is None:
                place, next_id = next_id, next_id + rng.choice([1, 1, 1, 2])
            decoder[str(place)] = {"content": content, **flags(rng, rng.random() < 0.6)}
        made["added_tokens_decoder"] = decoder
    return made


def special_map(rng):
    made = {role: named(rng, False) for role in ROLES if rng.random() < 0.4}
    if rng.random() < 0.3:
        made["additional_special_tokens"] = rng.sample(NAMES, rng.randrange(3))
    return made


def merges(rng):
    lines = list(MERGES)
    if rng.random() < 0.8:
        lines.insert(0, "#version: 0.2")
    end = rng.choice(["\n", "\n", "\r\n"])
    return end.join(lines) + (end if rng.random() < 0.8 else "")


def make(rng):
    tokens = vocabulary()
    without = [token for token in (MARKER, "hello") if rng.random() < 0.2 and token == MARKER]
    for token in without:
        del tokens[token]
    files = {}
    is_whole = rng.random() < 0.5
    if rng.random() < 0.75:
        files["tokenizer_config.json"] = config(rng, tokens)
    if rng.random() < 0.5:
        files["special_tokens_map.json"] = special_map(rng)
    if rng.random() < 0.3:
        chosen = [name for name in rng.sample(NAMES, 3) if name not in tokens]
        numbered = enumerate(chosen, start=len(tokens))
        files["added_tokens.json"] = {name: place for place, name in numbered}
    case = {"without": without, "files": files}
    if is_whole:
        case["whole"] = whole(rng, tokens)
        configured = files.get("tokenizer_config.json", {})
        # What transformers 4 and 5 take differs where these differ.
        if "added_tokens_decoder" in configured:
            added = {token["id"]: token for token in case["whole"]["added_tokens"]}
            described = {str(place): dict(token) for place, token in added.items()}
            for token in described.values():
                del token["id"]
            configured["added_tokens_decoder"] = described
            case["whole"]["added_tokens"] = list(added.values())
        if "added_tokens.json" in files:
            last = [token["id"] for token in case["whole"]["added_tokens"]]
            start = max([len(tokens) - 1, *last]) + 1
            names = list(files["added_tokens.json"])
            files["added_tokens.json"] = {name: start + place for place, name in enumerate(names)}
    lists = ("additional_special_tokens", "extra_special_tokens")
    configured = files.get("tokenizer_config.json", {})
    if "added_tokens.json" in files or any(name in configured for name in lists):
        files.get("special_tokens_map.json", {}).pop(lists[0], None)
    if not is_whole or rng.random() < 0.3:
        case["merges"] = merges(rng)
    names = list(files) + (["tokenizer.json"] if is_whole else [])
    names += ["vocab.json", "merges.txt"] if "merges" in case else []
    case["marked"] = [name for name in names if rng.random() < 0.1]
    return case, tokens


def tokenizer_json(case, tokens):
    part = case["whole"]
    byte_level = {"type": "ByteLevel", "trim_offsets": True, "use_regex": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": part["added_tokens"],
        "normalizer": None,
        "pre_tokenizer": {**byte_level, "add_prefix_space": part["add_prefix_space"]},
        "post_processor": part["post_processor"],
        "decoder": {**byte_level, "add_prefix_space": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": False,
            "byte_fallback": False,
            "vocab": tokens,
            "merges": MERGES,
        },
    }


def write(case, tokens, folder):
    for name, contents in case["files"].items():
        (folder / name).write_text(json.dumps(contents, ensure_ascii=False), encoding="utf-8")
    if "whole" in case:
        (folder / "tokenizer.json").write_text(json.dumps(tokenizer_json(case, tokens)))
    if "merges" in case:
        (folder / "vocab.json").write_text(json.dumps(tokens))
        (folder / "merges.txt").write_bytes(case["merges"].encode())
    (folder / "config.json").write_text('{"model_type": "gpt2"}')


def results(folder):
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(folder))
    has = lambda name: getattr(tokenizer, name) is not None
    ids = lambda name: getattr(tokenizer, name + "_id") if has(name) else None
    texts = []
    for text in TEXTS:
        found = tokenizer(text)["input_ids"]
        texts.append(
            {
                "text": text,
                "ids": found,
                "pair": tokenizer(text, "the")["input_ids"],
                "decoded": tokenizer.decode(found),
                "decoded_skip_special": tokenizer.decode(found, skip_special_tokens=True),
            }
        )
    return {
        "rows": len(tokenizer) + 3,
        "roles": {role: ids(role) for role in ROLES[:4]},
        "texts": texts,
    }


def main():
    seed, count = (int(argument) for argument in (sys.argv[1:3] or ("19", "60")))
    output = Path(sys.argv[3]) if len(sys.argv) > 3 else HERE / "folders.json"
    rng = random.Random(seed)
    cases = []
    tried = 0
    while len(cases) < count:
        case, tokens = make(rng)
        tried += 1
        with tempfile.TemporaryDirectory() as folder:
            write(case, tokens, Path(folder))
            try:
                case["expected"] = results(Path(folder))
            except Exception as error:
                print("left out:", type(error).__name__, str(error)[:100])
                continue
        cases.append(case)
    print(f"{len(cases)} of {tried}")
    lines = ",\n".join(json.dumps(case, ensure_ascii=False) for case in cases)
    head = json.dumps({"vocabulary": list(vocabulary()), "merges": MERGES}, ensure_ascii=False)
    output.write_text(head[:-1] + ', "cases": [\n' + lines + "\n]}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
