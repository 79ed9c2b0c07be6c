"""Trains small byte-level BPE vocabularies on this repository's decisions and encodes texts with transformers' tokenizers
that are written in Python.

For each folder below: vocab.json, merges.txt, its other files, and encoded.jsonl with {"text", "ids"} in each line.
The documents grow: a later run makes other vocabularies, and texts that belong to them.
Needs: pip install -r ../sentencepiece/requirements.txt
Usage: make.py [--random N] [--out FOLDER]   (--random: as many random texts more, for a comparison at large)
"""

import argparse
import json
import pathlib
import random
import shutil

from tokenizers import ByteLevelBPETokenizer
from transformers import GPT2Tokenizer, Qwen2Tokenizer

HERE = pathlib.Path(__file__).parent
TRAINING_TEXT = [line for path in sorted((HERE.parents[2] / "docs/adr").glob("*.md")) for line in path.open()]
SIZE = 400

END = "<|endoftext|>"
FOLDERS = {
    "gpt2": (GPT2Tokenizer, [END], {"tokenizer_config.json": {"tokenizer_class": "GPT2Tokenizer"},
                                    "special_tokens_map.json": {name: END for name in
                                                                ["bos_token", "eos_token", "unk_token"]}}),
    "qwen2": (Qwen2Tokenizer, [], {"tokenizer_config.json": {
        "tokenizer_class": "Qwen2Tokenizer", "add_bos_token": False, "add_prefix_space": False, "bos_token": None,
        "eos_token": "<|im_end|>", "pad_token": END,
        "additional_special_tokens": ["<|im_start|>", "<|im_end|>"],
        "added_tokens_decoder": {str(SIZE + index): dict(content=content, lstrip=False, normalized=False, rstrip=False,
                                                         single_word=False, special=True)
                                 for index, content in enumerate([END, "<|im_start|>", "<|im_end|>"])}}}),
}
TEXTS = [
    "", " ", "   ", "a", " a", "a ", "  a  b   c  ", "\n", "\n\n a", "a\n\nb\n", "\t\tif x:\n\t\t\ty", "\r\n",
    "The engine decodes the branches of all requests in one batch.", "Hello, World!", "1234567890 3.14 007",
    "na\u00efve caf\u00e9 e\u0301 \u00df \u0130", "\u4e2d\u6587\u5b57\u7b26 \u65e5\u672c\u8a9e", "\U0001f642\U0001f468\u200d\U0001f469 \U0001f1e9\U0001f1ea", "\u0000", "a\u0000b",
    "\u0001\u007f\u00a0\u2028\ufffd", "don't we'll I'M you'RE", f"a{END}b", f" {END} ", "<|im_start|>user\nhi<|im_end|>\n",
    "<|im_end|><|im_end|>", "<|im_", "x" * 40, "-----====----", "\u212b\ufb01", "    return  None", "\u0e20\u0e32\u0e29\u0e32", "A\u030a",
]
PARTS = [" ", "  ", "\n", "\n\n", "\t", "a", "the", "engine", "Request", "1", "23", ".", ", ", "!", "\u00e9", "e\u0301", "\u4e2d", "\U0001f642",
         END, "<|im_start|>", "<|im_end|>", "\u0000", "'s", "'LL", "\u212b", "decode", "ing", "-", "\u0416", "   ", "`", "\r\n"]


def random_texts(count):
    source = random.Random(15)
    words = "".join(TRAINING_TEXT)
    for _ in range(count):
        parts = []
        for _ in range(source.randint(1, 14)):
            start = source.randrange(len(words) - 20)
            parts.append(source.choice([source.choice(PARTS), words[start:start + source.randint(1, 20)]]))
        yield "".join(parts)


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--random", type=int, default=0)
    options.add_argument("--out", type=pathlib.Path, default=HERE)
    arguments = options.parse_args()
    for name, (kind, special, files) in FOLDERS.items():
        folder = arguments.out / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        trained = ByteLevelBPETokenizer()
        trained.train_from_iterator(TRAINING_TEXT, vocab_size=SIZE, min_frequency=2, special_tokens=special,
                                    show_progress=False)
        trained.save_model(str(folder))
        for file, content in files.items():
            (folder / file).write_text(json.dumps(content, indent=1) + "\n")
        tokenizer = kind.from_pretrained(folder)
        with open(folder / "encoded.jsonl", "w") as lines:
            for text in [*TEXTS, *random_texts(arguments.random)]:
                ids = tokenizer.encode(text, add_special_tokens=False)
                lines.write(json.dumps({"text": text, "ids": ids}) + "\n")


main()
