"""Trains small SentencePiece models on this repository's documents and encodes texts with transformers' LlamaTokenizer
(the one written in Python, which calls SentencePiece).

For each folder below: its tokenizer files, and encoded.jsonl with {"text", "ids"} in each line.
The documents grow: a later run makes other vocabularies, and texts that belong to them.
Needs: pip install -r requirements.txt
Usage: make.py [--random N] [--out FOLDER]   (--random: as many random texts more, for a comparison at large)
"""

import argparse
import io
import json
import pathlib
import random
import re
import shutil

import sentencepiece
from transformers import LlamaTokenizer

HERE = pathlib.Path(__file__).parent
TRAINING_TEXT = [line for path in sorted((HERE.parents[2] / "docs/adr").glob("*.md")) for line in path.open()]

LLAMA = dict(byte_fallback=True, add_dummy_prefix=True, remove_extra_whitespaces=False, split_digits=True,
             allow_whitespace_only_pieces=True)
APAR = {"[SplitMask]": 400, "[SplitSop]": 401}
NAMES = dict(bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def token(content, strips=False, special=False):
    return dict(content=content, lstrip=strips, rstrip=strips, normalized=False, single_word=False, special=special)


MARKS = {"400": token("<|mark|>"), "401": token("<|wide|>", strips=True)}
APAR_DECODER = {str(id): token(content, strips=True) for content, id in APAR.items()}
# name: (options of the trainer, files beside it, what else transformers is told)
FOLDERS = {
    # APAR's published checkpoints: an old tokenizer stripped white space around added tokens.
    "apar": (LLAMA, {"added_tokens.json": APAR, "special_tokens_map.json": NAMES},
             dict(added_tokens_decoder=APAR_DECODER)),
    "legacy": (LLAMA, {"tokenizer_config.json": dict(NAMES, legacy=True, added_tokens_decoder=MARKS)}, {}),
    "newer": (LLAMA, {"tokenizer_config.json": dict(NAMES, legacy=False, tokenizer_class="LlamaTokenizer",
                                                    added_tokens_decoder=MARKS)}, {}),
    "collapsed": (dict(remove_extra_whitespaces=True), {"tokenizer_config.json": dict(NAMES, legacy=True)}, {}),
    "collapsed-newer": (dict(remove_extra_whitespaces=True),
                        {"tokenizer_config.json": dict(NAMES, legacy=False)}, {}),
    "symbols": (dict(LLAMA, user_defined_symbols=["<ud>", "\u2581\u2581\u2581", "[x]y", "\n\n"]),
                {"tokenizer_config.json": dict(NAMES, legacy=True)}, {}),
    "symbols-without-prefix": (dict(LLAMA, add_dummy_prefix=False, user_defined_symbols=["<ud>", "\u2581\u2581"]),
                               {"tokenizer_config.json": dict(NAMES, legacy=True)}, {}),
}

TEXTS = [
    "", " ", "   ", "a", " a", "a ", "  a  b   c  ", "\n", "\n\n a", "a\n\nb\n", "\t\tif x:\n\t\t\ty", "\r\n",
    "The engine decodes the branches of all requests in one batch.", "Hello, World!", "1234567890 3.14 007",
    "na\u00efve caf\u00e9 e\u0301 \u00df \u0130", "\u4e2d\u6587\u5b57\u7b26 \u65e5\u672c\u8a9e", "\U0001f642\U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f1e9\U0001f1ea",
    "\u0000", "a\u0000b", "\u0001\u007f\u0085\u00a0\u2028\ufeff\ufffd\uffff", "\u2581", "a\u2581b", "\u2581\u2581 a \u2581",
    "<s>", "</s>", "a</s>b", " <s> a </s> b ", "<s>a<s>", "<unk>", "<0x0A>", "<0x41>b", "<s", "s>",
    "[SplitMask]", "1. Tea:[SplitMask]\n2. Coffee:[SplitMask]", "a [SplitMask] b", "  [SplitSop]  [SplitMask]\n\n",
    "<|mark|>", "x<|mark|>y", " <|mark|> y", "x <|wide|>\n y", "<|wide|><|mark|>  ", "<|mark|><|mark|>",
    "x<ud>y", "<ud> a", "a <ud><ud>", "a[x]y b[x]", "a    b     c", "\n\n\n\n", "don't we'll I'M", "x" * 60,
    "aaaaaaaaaaaaaaaaaaaaaaaaa", "-----====----", "a,b;c:d.e!f?g", "tokenizer.json", "    return  None", "\u0e20\u0e32\u0e29\u0e32",
    "\U00010348\U0010ffff", "\u202ertl\u202c", "ab\u0301\u0302\u0303c",
]
PARTS = [" ", "  ", "\n", "\n\n", "\t", "a", "the", "engine", "Request", "1", "23", ".", ", ", "!", "\u00e9", "e\u0301", "\u4e2d", "\U0001f642",
         "\u2581", "<s>", "</s>", "[SplitMask]", "[SplitSop]", "<|mark|>", "<|wide|>", "<ud>", "[x]y", "\u0000", "\ufeff",
         "<0x0A>", "\u00a0", "decode", "ing", "ed", "-", "_", "\u0416", "token", "tokens", "   ", "`", "aa", "aaa"]


def random_texts(count):
    source = random.Random(15)
    words = "".join(TRAINING_TEXT)
    for _ in range(count):
        parts = []
        for _ in range(source.randint(1, 14)):
            if source.random() < 0.5:
                parts.append(source.choice(PARTS))
            else:
                start = source.randrange(len(words) - 20)
                parts.append(words[start:start + source.randint(1, 20)])
        yield "".join(parts)


def is_exact(name, text):
    """Leaves out what the conversion gives up."""
    training, files, _ = FOLDERS[name]
    # A text that is one user defined symbol, between added tokens or alone.
    symbols = training.get("user_defined_symbols", [])
    if any(part.replace(" ", "\u2581") in symbols for part in re.split(r"<s>|</s>|<unk>", text)):
        return False
    # JavaScript strips a byte order mark, Python does not.
    if re.search(r"\ufeff\s*(\[Split|<\|wide)|(Mask\]|Sop\]|wide\|>)\s*\ufeff", text):
        return False
    # With legacy=false, LlamaTokenizer leaves a space before an added token at the start unless that is special, and
    # takes a \u2581 that is stripped beside one for a space.
    return name != "newer" or not re.search(r"^\s*<\|(mark|wide)|\u2581\s*<\|wide|wide\|>\s*\u2581", text)


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--random", type=int, default=0)
    options.add_argument("--out", type=pathlib.Path, default=HERE)
    arguments = options.parse_args()
    for name, (training, files, more) in FOLDERS.items():
        folder = arguments.out / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        model = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(TRAINING_TEXT), model_writer=model, vocab_size=400, model_type="bpe",
            normalization_rule_name="identity", character_coverage=0.999, num_threads=1, minloglevel=2, **training)
        (folder / "tokenizer.model").write_bytes(model.getvalue())
        for file, content in files.items():
            (folder / file).write_text(json.dumps(content, indent=1) + "\n")
        tokenizer = LlamaTokenizer.from_pretrained(folder, **more)
        texts = [*TEXTS, *random_texts(arguments.random)]
        with open(folder / "encoded.jsonl", "w") as lines:
            for text in texts:
                if is_exact(name, text):
                    ids = tokenizer.encode(text, add_special_tokens=False)
                    lines.write(json.dumps({"text": text, "ids": ids}) + "\n")


main()
