"""The lines that prove writes: what was run, on what, what came out. One deadline holds for all of it."""

import json
import os
import subprocess
import time
import traceback
from contextlib import contextmanager
from pathlib import Path
from typing import Callable, Optional

from .programs import run_limited
from .targets import targets

PROGRAM_SECONDS = 90  # unless a caller knows better
LEAST_SECONDS = 1  # with less left, nothing is begun


class Skipped(Exception):
    """What cannot run here, and why."""


class OutOfTime(Skipped):
    """The deadline of the whole run has come."""


class Failed(Exception):
    """A check that did not hold, or a program that ended with an error."""


class Report:
    """Writes OUT/prove.jsonl, and to OUT/prove.log what programs said. Earlier ones become prove.1.jsonl, prove.1.log, ..."""

    def __init__(self, folder: Path, device: str, seconds: float) -> None:
        self.began = time.monotonic()
        self.seconds = seconds
        self.device = device
        keep_earlier(folder)
        self.file = open(folder / "prove.jsonl", "w", encoding="utf-8")
        self.log = open(folder / "prove.log", "a+b", buffering=0)
        self.lines = []
        self.failed = []
        self.not_shown = []
        self.failed_cases = []
        self.line(part="prove", case="begin", date=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), device=device,
                  commit=first_line(["git", "rev-parse", "HEAD"]), gpu=gpu() if device == "cuda" else None)

    def line(self, **fields) -> None:
        print(self.detail(**fields), flush=True)

    def detail(self, **fields) -> str:
        """A line for the file alone: what calls the script shows only the end of what it prints."""
        fields = {key: value for key, value in fields.items() if value is not None}
        self.lines.append(fields)
        text = json.dumps(fields)
        self.file.write(text + "\n")
        self.file.flush()
        return text

    def left(self) -> float:
        return self.began + self.seconds - time.monotonic()

    def run(self, name: str, part: Callable, options, needs_build: bool = False) -> None:
        began = time.monotonic()
        self.failed_cases = []
        result, why = "ok", None
        try:
            if needs_build and "build" in self.failed:
                raise Skipped("the build failed")
            if self.left() < LEAST_SECONDS:
                raise OutOfTime("no time left")
            part(self, options)
        except Skipped as skipped:
            result, why = "skipped", str(skipped)
        except Exception as failure:  # the parts after it still run
            result, why = "failed", self.explain(failure)
        except BaseException:  # the script itself is being ended
            self.not_shown.append(name)
            raise
        if self.failed_cases:
            why = "; ".join(filter(None, [f"failed: {', '.join(self.failed_cases)}", why]))
            result = "failed"
        if result == "failed":
            self.failed.append(name)
        elif result == "skipped":
            self.not_shown.append(name)
        self.line(part=name, case="end", result=result, why=why, seconds=round(time.monotonic() - began, 1))

    @contextmanager
    def attempt(self, part: str, case: str):
        """A case whose failure is the part's, and leaves the part's other cases alone."""
        try:
            yield
        except OutOfTime:
            raise
        except Skipped as skipped:
            self.line(part=part, case=case, result="skipped", why=str(skipped))
        except Exception as failure:
            self.fail(part, case, self.explain(failure))

    def fail(self, part: str, case: str, why: str) -> None:
        self.failed_cases.append(case)
        self.line(part=part, case=case, result="failed", why=why)

    def explain(self, failure: Exception) -> str:
        if isinstance(failure, Failed):
            return str(failure)
        self.log.write(traceback.format_exc().encode())
        return f"{type(failure).__name__}: {failure}"[-600:]

    def program(self, command, limit: float = PROGRAM_SECONDS, binary: bool = False, **how) -> bytes:
        """Runs to the end and returns what was printed. A program that takes longer than `limit` has failed; one that the
        deadline ended has not been shown. Raises Failed with its last words; the log has them all, but for `binary` output."""
        command = [str(word) for word in command]
        name, left = os.path.basename(command[0]), self.left()
        if left < LEAST_SECONDS:
            raise OutOfTime("no time left")
        self.log.write(f"$ {' '.join(command)}\n".encode())
        begin, printed = self.log.tell(), bytearray()
        try:
            status = run_limited(command, min(limit, left), self.log, keep=printed, **how)
        except subprocess.TimeoutExpired:
            if limit <= left:
                raise Failed(f"{name} took longer than {limit:g} s") from None
            raise OutOfTime(f"no time left: {name} was ended after {left:.0f} s") from None
        finally:
            if not binary:
                self.log.write(bytes(printed))
        if status != 0:
            self.log.seek(begin)
            raise Failed(f"{name} ended with {status}: {self.log.read().decode(errors='replace').strip()[-600:]}")
        return bytes(printed)

    def results(self, command, add: Callable, **how) -> None:
        """Hands the JSON objects that a program prints to `add` as they come: those before a hang or a crash count."""
        self.program(command, on_line=lambda text: add(json.loads(text)) if text.startswith("{") else None, **how)

    def finish(self) -> int:
        measured = self.lines if self.device == "cuda" else []  # the CPU's figures are of a tiny model
        self.line(part="prove", case="targets", targets=targets(measured))
        self.line(part="prove", case="end", result="failed" if self.failed else "ok", failed=self.failed or None,
                  not_shown=self.not_shown or None, seconds=round(time.monotonic() - self.began, 1))
        return 1 if self.failed else 0


def keep_earlier(folder: Path) -> None:
    number = 1
    while any((folder / f"prove.{number}.{kind}").exists() for kind in ("jsonl", "log")):
        number += 1
    for kind in ("jsonl", "log"):
        if (folder / f"prove.{kind}").exists():
            (folder / f"prove.{kind}").rename(folder / f"prove.{number}.{kind}")


def first_line(command, limit: Optional[float] = 10) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=limit).stdout.strip().split("\n")[0]
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def gpu() -> str:
    return first_line(["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"])
