"""The lines that prove writes: what was run, on what, what came out."""

import json
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import Callable


class Skipped(Exception):
    """A part that cannot run here, and why."""


class Failed(Exception):
    """A check that did not hold, or a program that ended with an error."""


class Report:
    def __init__(self, path: Path, device: str) -> None:
        self.file = open(path, "a", encoding="utf-8")
        self.failed = []
        self.began = time.time()
        self.line(part="prove", case="begin", date=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), device=device,
                  commit=first_line(["git", "rev-parse", "HEAD"]), gpu=gpu() if device == "cuda" else None)

    def line(self, **fields) -> None:
        text = json.dumps({key: value for key, value in fields.items() if value is not None})
        print(text, flush=True)
        self.file.write(text + "\n")
        self.file.flush()

    def run(self, name: str, part: Callable, options) -> None:
        began = time.time()
        try:
            part(self, options)
            result, why = "ok", None
        except Skipped as skipped:
            result, why = "skipped", str(skipped)
        except Failed as failed:
            result, why = "failed", str(failed)
        except Exception:  # the parts after it still run
            result, why = "failed", traceback.format_exc()
        if result == "failed":
            self.failed.append(name)
        self.line(part=name, case="end", result=result, why=why, seconds=round(time.time() - began, 1))

    def finish(self) -> int:
        self.line(part="prove", case="end", result="failed" if self.failed else "ok", failed=self.failed or None,
                  seconds=round(time.time() - self.began, 1))
        return 1 if self.failed else 0


def first_line(command) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip().split("\n")[0]
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def gpu() -> str:
    return first_line(["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"])


def run_program(command, **options) -> subprocess.CompletedProcess:
    """Runs to the end, or for `timeout` seconds. Raises Failed with the program's last words."""
    try:
        done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)
    except subprocess.TimeoutExpired as late:
        raise Failed(f"{command[0]} took longer than {late.timeout} s") from late
    if done.returncode != 0:
        words = (done.stdout + done.stderr).decode(errors="replace") if isinstance(done.stdout, bytes) else done.stdout + done.stderr
        sys.stderr.write(words)
        raise Failed(f"{command[0]} ended with {done.returncode}: {words.strip()[-600:]}")
    return done
