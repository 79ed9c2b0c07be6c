"""The output files of a run: the results, one JSON object per line, and a log of the programs' output. The files are
few and small, because at most 8 files of 16 MiB are copied back from the machine."""

import json
import os
import sys
from contextlib import contextmanager
from pathlib import Path

from .part import NATIVE

MAX_BYTES = 15 << 20  # of each file
CUT = b"\n[the rest is omitted: the file has reached its limit]\n"


class Results:
    """Writes FOLDER/NAME.jsonl and FOLDER/NAME.log. Files of earlier runs are renamed to NAME.1.jsonl, NAME.1.log,
    ..."""

    def __init__(self, folder: Path, name: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        keep_earlier(folder, name)
        self.file = open(folder / f"{name}.jsonl", "w", encoding="utf-8")
        self.log = open(folder / f"{name}.log", "a+b", buffering=0)  # programs write to it directly
        self.full = False

    def add(self, line: dict) -> None:
        """Writes a result, and prints it unless it is marked as a detail."""
        text = json.dumps(line).replace(f"{NATIVE.parent}/", "")  # results are published without local folders
        if not line.get("detail"):
            print(text, flush=True)
        with self.unless_full():
            if self.file.tell() + len(text) < MAX_BYTES:
                self.file.write(text + "\n")
                self.file.flush()

    def write_log(self, text: str) -> None:
        with self.unless_full():
            self.log.write(text.encode() + b"\n")

    @contextmanager
    def unless_full(self):
        """Ignores a full disk: results are still printed, and the parts continue."""
        try:
            yield
        except OSError as problem:
            if not self.full:
                print(f"verify: results are lost from here on: {problem}", file=sys.stderr, flush=True)
            self.full = True

    def cut_log(self) -> None:
        """Called between parts, so that a program which prints without end cannot use up the log of the next parts."""
        if os.fstat(self.log.fileno()).st_size > MAX_BYTES:
            self.log.truncate(MAX_BYTES - len(CUT))
            self.log.write(CUT)

    def close(self) -> None:
        with self.unless_full():
            self.cut_log()
            self.log.close()
            self.file.close()


def keep_earlier(folder: Path, name: str) -> None:
    number = 1
    while any((folder / f"{name}.{number}.{kind}").exists() for kind in ("jsonl", "log")):
        number += 1
    for kind in ("jsonl", "log"):
        if (folder / f"{name}.{kind}").exists():
            (folder / f"{name}.{kind}").rename(folder / f"{name}.{number}.{kind}")
