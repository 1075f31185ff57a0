"""Writes austen.json: results of Hugging Face's tokenizers for difficult texts.

Usage: python make_cases.py (needs the PyPI package tokenizers; the file was made with 0.23.3).
"""

import json
from pathlib import Path

import tokenizers

HERE = Path(__file__).parent
TEXTS = [
    "",
    " ",
    "Hello world",
    " Hello, world! It's 1813.",
    "I'll've done'em 'sup 'S ''s they'RE",
    "\t\tx\n\n  y \r\n z",
    "  leading and   inner   spaces  ",
    "a \u00a0b \u3000\u2003c\u2028d\u0085e\u001cf\u180eg\u200bh",
    "naïve café — “quotes”… e\u0301 vs é",
    "日本語のテキスト、你好",
    "😀 👩\u200d👩\u200d👧 🇫🇷",
    "العربية हिन्दी ไทย ½Ⅳ٣²",
    "a<|endoftext|>b <|endoftext|> c<|endoftext",
    "1234567890 3.14159 1e-10",
    "def f(x):\n    return x**2  # ok\n",
    "https://example.org/?q=a&b=c#d",
    "ĠĊ\u0000\u0001\u007f\u00ad",
    "Mr. Darcy's pride, and Elizabeth's prejudice; " * 3,
    "the" * 40,
    "=" * 70,
]


def main():
    model = HERE.parent.parent.parent / "models" / "austen-gpt2" / "tokenizer.json"
    tokenizer = tokenizers.Tokenizer.from_file(str(model))
    cases = []
    for text in TEXTS:
        encoding = tokenizer.encode(text)
        decoded = tokenizer.decode(encoding.ids, skip_special_tokens=False)
        cases.append(
            {
                "text": text,
                "ids": encoding.ids,
                "tokens": encoding.tokens,
                "offsets": encoding.offsets,
                "decoded": decoded,
                "decoded_skip_special": tokenizer.decode(encoding.ids),
            }
        )
    lines = ",\n".join(json.dumps(case, ensure_ascii=False) for case in cases)
    (HERE / "austen.json").write_text('{"cases": [\n' + lines + "\n]}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
