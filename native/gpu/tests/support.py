import contextlib
import io
import json
import os
import stat
import tempfile
import time
import unittest
from pathlib import Path
from typing import List, Optional
from unittest import mock

from verification.part import Part
from verification.results import Results
from verification.runner import Runner


class InFolder(unittest.TestCase):
    """A test with its own temporary folder and captured standard output."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.printed = io.StringIO()
        for redirect in (contextlib.redirect_stdout(self.printed), contextlib.redirect_stderr(io.StringIO())):
            redirect.__enter__()
            self.addCleanup(redirect.__exit__, None, None, None)

    def program(self, name: str, script: str) -> Path:
        """Writes a stand-in for a program, which is a shell script."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return path

    def on_path(self, name: str, script: str) -> None:
        """Writes a stand-in and puts it on the PATH before the real program of that name."""
        self.program(f"bin/{name}", script)
        path = f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
        patched = mock.patch.dict(os.environ, {"PATH": path})
        patched.start()
        self.addCleanup(patched.stop)

    def log_folder(self) -> Path:
        return self.folder / "out"


class OnePart(InFolder):
    """A test of one part in this process, with stand-ins for the programs."""

    def part(self, name: str = "parity", device: str = "cuda", seconds: float = 60, earlier: Optional[List[dict]] = None) -> Part:
        part = Part(name, device, self.folder, seconds, earlier or [])
        part.programs = self.folder
        part.log = open(self.folder / "log", "a", encoding="utf-8")
        self.addCleanup(part.log.close)
        return part

    def lines(self) -> List[dict]:
        return [json.loads(text) for text in self.printed.getvalue().splitlines()]

    def line(self, case: str, **fields) -> dict:
        """The only line of the case that has these fields."""
        found = [line for line in self.lines() if line["case"] == case and fields.items() <= line.items()]
        self.assertEqual(len(found), 1, found)
        return found[0]


class Phase(InFolder):
    """A test of parts as processes. The test writes their modules."""

    def phase(self, steps, seconds: float = 60, device: str = "cpu") -> Runner:
        results = Results(self.log_folder(), "phase")
        runner = Runner(results, device, self.folder, time.monotonic() + seconds)
        self.began = time.monotonic()
        runner.run(steps)
        results.close()
        return runner

    def lines(self) -> List[dict]:
        return [json.loads(text) for text in (self.log_folder() / "phase.jsonl").read_text().splitlines()]

    def log(self) -> str:
        return (self.log_folder() / "phase.log").read_text(errors="replace")

    def ends(self) -> dict:
        """The result and the reason of every part."""
        return {line["part"]: (line["result"], line.get("why")) for line in self.lines() if line["case"] == "end"}
