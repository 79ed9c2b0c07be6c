"""Ids and text of a tokenizer.json, for reading what a model wrote. Encoding is done by training/data."""

import json
import re
from pathlib import Path
from typing import List


class Vocabulary:
    def __init__(self, path: Path) -> None:
        raw = json.loads(Path(path).read_text())
        self.pieces = {i: text for text, i in raw["model"]["vocab"].items()}
        self.special = {entry["id"]: entry["content"] for entry in raw["added_tokens"]}
        self.ids = {content: i for i, content in self.special.items()}
        self.fork, self.child, self.eos = self.ids["[Fork]"], self.ids["[Child]"], self.ids["</s>"]

    def text(self, ids: List[int]) -> str:
        """The text of ids; special tokens are spelt out."""
        parts = bytearray()
        for i in ids:
            byte = re.fullmatch(r"<0x([0-9A-F]{2})>", self.pieces.get(i, ""))
            if i in self.special:
                parts += self.special[i].encode()
            elif byte:
                parts.append(int(byte.group(1), 16))
            else:
                parts += self.pieces[i].replace("\u2581", " ").encode()
        return parts.decode("utf-8", errors="replace")
