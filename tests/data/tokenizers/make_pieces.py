"""Trains small SentencePiece models and writes pieces.json: what SentencePiece makes of texts.

Usage: python make_pieces.py [OUTPUT_FOLDER [RULES]] (needs the Python package sentencepiece; the
files were made with 0.2.3). RULES names a normalization of SentencePiece, such as nmt_nfkc, in the
place of the small one here.
"""

import json
import random
import sys
import tempfile
from pathlib import Path

import sentencepiece

HERE = Path(__file__).parent
CORPUS = """
It is a truth universally acknowledged, that a single man in possession of a good fortune, must be
in want of a wife. However little known the feelings or views of such a man may be on his first
entering a neighbourhood, this truth is so well fixed in the minds of the surrounding families, that
he is considered as the rightful property of some one or other of their daughters.
"My dear Mr. Bennet," said his lady to him one day, "have you heard that Netherfield Park is let at
last?" Mr. Bennet replied that he had not. "But it is," returned she; "for Mrs. Long has just been
here, and she told me all about it." 1813 <sep> [X] a < b > c < d > e 0123456789 ABCDEF
aaaa aaa aa ---- ...... <0x41>
我輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。über Straße naïve café
"""
# Grapheme clusters: of longer texts the tokenizers library does not see the whole.
RULES = [("Ａ", "a"), ("e\u0301", "e"), ("\u3000", " "), ("\t", " "), ("ﬁ", "fi"), ("é", "e")]
WORDS = [
    "truth", "acknowledged", "neighbourhood", "Mr.", "Bennet", "他", "我輩は猫", "über", "x", "ZZ",
    "aaaaa", "aaaaaaa", "--", "<sep>", "[X]", "<s>", "</s>", "<unk>", "[CLS]", "<0x41>", "▁", "▁▁",
    "😀", "\u3000", "\t", "\n", "  ", " ", " ", "ﬁne", "Ａ", "e\u0301", "é", "1813", '"My', "dear,",
]
MODELS = {
    "unigram": {"model_type": "unigram", "vocab_size": 160},
    "unigram_bytes": {
        "model_type": "unigram",
        "vocab_size": 420,
        "byte_fallback": True,
        "user_defined_symbols": ["<sep>", "[X]"],
        "control_symbols": ["[CLS]"],
        "pad_id": 3,
        "character_coverage": 1.0,
    },
    "bpe": {"model_type": "bpe", "vocab_size": 200},
    "bpe_bytes": {
        "model_type": "bpe",
        "vocab_size": 460,
        "byte_fallback": True,
        "add_dummy_prefix": False,
        "remove_extra_whitespaces": False,
        "user_defined_symbols": ["<sep>", "[X]"],
        "split_digits": True,
    },
}


def texts():
    rng = random.Random(19)
    made = ["", " ", "It is a truth", "  two  spaces  ", "line\nline", "▁a ▁", "a<sep>b"]
    made.append("<s>a</s>")
    for _ in range(60):
        parts = [rng.choice(WORDS) + rng.choice(["", "", " "]) for _ in range(rng.randrange(1, 9))]
        made.append("".join(parts))
    return made


def main():
    output = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder) / "corpus.txt"
        corpus.write_text(CORPUS, encoding="utf-8")
        rules = Path(folder) / "rules.tsv"
        code_points = lambda text: " ".join(f"{ord(character):X}" for character in text)
        lines = [f"{code_points(one)}\t{code_points(other)}\n" for one, other in RULES]
        rules.write_text("".join(lines))
        for name, options in MODELS.items():
            if len(sys.argv) > 2:
                options = {**options, "normalization_rule_name": sys.argv[2]}
            elif "bytes" in name:
                options = {**options, "normalization_rule_tsv": str(rules)}
            else:
                options = {**options, "normalization_rule_name": "identity"}
            model_folder = output / f"pieces_{name}"
            model_folder.mkdir(exist_ok=True)
            sentencepiece.SentencePieceTrainer.train(
                input=str(corpus),
                model_prefix=str(Path(folder) / name),
                minloglevel=2,
                num_threads=1,
                **options,
            )
            model = (Path(folder) / name).with_suffix(".model").read_bytes()
            (model_folder / "spiece.model").write_bytes(model)
            processor = sentencepiece.SentencePieceProcessor(model_proto=model)
            results[name] = {
                "rows": processor.get_piece_size(),
                "texts": [[text, processor.encode(text)] for text in texts()],
            }
    text = lambda value: json.dumps(value, ensure_ascii=False)
    lines = [f"{text(name)}: {text(case)}" for name, case in results.items()]
    (output / "pieces.json").write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
