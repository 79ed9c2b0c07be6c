"""What a part of the verification has at hand. Each runs in a process of its own (`python3 -m verification.parts.NAME`), which the
runner starts and ends: a part that crashes or hangs takes nothing else with it.

A part prints one JSON object per line on standard output as soon as it knows something; the last one says how it ended. What
programs say goes to standard error, which the runner keeps as the log."""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from contextlib import contextmanager
from pathlib import Path
from typing import Callable, List, Optional, Tuple

from .processes import Quiet, run_limited

NATIVE = Path(__file__).resolve().parents[2]
PROGRAM_SECONDS = 60  # unless a caller knows better
LEAST_SECONDS = 1  # with less left, nothing is begun
MOST_LOGGED = 200_000  # characters of one program
FIRST_WORDS, LAST_WORDS = 900, 300  # characters of a failed program's output that its result keeps


class Skipped(Exception):
    """What cannot run here, and why."""


class OutOfTime(Skipped):
    """The part's time is used up."""


class Failed(Exception):
    """A check that did not hold, or a program that ended with an error."""


class Part:
    """`device` is cuda or cpu; `programs` the folder of the built programs, `given_programs` the one that the caller named, if any;
    `build_dir` takes files of this part's own."""

    def __init__(self, name: str, device: str, build_dir: Path, seconds: float, earlier: List[dict],
                 given_programs: Optional[Path] = None) -> None:
        self.name = name
        self.device = device
        self.build_dir = build_dir
        self.deadline = time.monotonic() + seconds
        self.earlier_lines = earlier
        self.failed: List[str] = []
        self.log = sys.stderr
        self.output = ""  # of the last program, standard error included
        self.given_programs = given_programs
        built = self.earlier("build", "programs")
        self.programs = given_programs or (Path(built["folder"]) if built else build_dir)

    @property
    def cuda(self) -> bool:
        return self.device == "cuda"

    def left(self) -> float:
        return self.deadline - time.monotonic()

    def earlier(self, part: str, case: str) -> Optional[dict]:
        """The last line of this case that a part before this one left, in an earlier phase too."""
        for line in reversed(self.earlier_lines):
            if line.get("part") == part and line.get("case") == case:
                return line
        return None

    def result(self, case: str, **fields) -> None:
        """`detail=True` marks a line for the results file alone: whoever calls the script sees only the end of what it prints."""
        known = {key: value for key, value in fields.items() if value is not None}
        print(json.dumps({"part": self.name, "case": case, **known}), flush=True)

    def fail(self, case: str, why: str, **fields) -> None:
        self.failed.append(case)
        self.result(case, result="failed", why=why, **fields)

    def skip(self, case: str, why: str) -> None:
        self.result(case, result="skipped", why=why)

    @contextmanager
    def attempt(self, case: str):
        """A case whose failure is the part's, and leaves the part's other cases alone."""
        try:
            yield
        except OutOfTime:
            raise
        except Skipped as skipped:
            self.skip(case, str(skipped))
        except Exception as failure:
            self.fail(case, explain(failure))

    def program(self, command, limit: float = PROGRAM_SECONDS, binary: bool = False, **how) -> bytes:
        """Runs to the end and returns what was printed. A program that takes longer than `limit` seconds has failed; one that the
        part's deadline ended has not been shown. Raises Failed with its words; the log has them all, but for `binary` output."""
        status, printed = self.run(command, limit, binary, **how)
        if status != 0:
            raise Failed(f"{program_name(command)} {ending(status)}: {excerpt(self.output)}")
        return printed

    def run(self, command, limit: float = PROGRAM_SECONDS, binary: bool = False, **how) -> Tuple[int, bytes]:
        """(exit status, what was printed); `output` is that, unless it is `binary`, and standard error. Raises as program() when time
        is up."""
        command = [str(word) for word in command]
        left = self.left()
        if left < LEAST_SECONDS:
            raise OutOfTime("no time left")
        self.say(f"$ {' '.join(command)}"[:400])
        printed = bytearray()
        with tempfile.TemporaryFile() as errors:
            try:
                try:
                    return run_limited(command, min(limit, left), errors, keep=printed, **how), bytes(printed)
                finally:
                    self.output = text_of(printed, errors, binary)
                    self.say(self.output)
            except Quiet as quiet:
                raise Failed(f"{program_name(command)} said nothing for {quiet.timeout:g} s; before that: {excerpt(self.output)}") from None
            except subprocess.TimeoutExpired:
                if left < limit:
                    raise OutOfTime(f"no time left: {program_name(command)} was ended after {left:.0f} s") from None
                raise Failed(f"{program_name(command)} took longer than {limit:g} s; it had said: {excerpt(self.output)}") from None

    def say(self, text: str) -> None:
        """To the log. Much of it is left out: no program may cost the log of the others."""
        if len(text) > MOST_LOGGED:
            text = f"{text[:MOST_LOGGED // 2]}\n[{len(text) - MOST_LOGGED} characters are left out]\n{text[-MOST_LOGGED // 2:]}"
        try:
            self.log.write(text + "\n")
            self.log.flush()
        except OSError:
            pass  # a full disk must not cost the part

    def results(self, command, add: Callable[[dict], None], **how) -> None:
        """Hands the JSON objects that a program prints to `add` as they come: those before a hang or a crash count."""
        def on_line(text: str) -> None:
            try:
                line = json.loads(text) if text.startswith("{") else None
            except ValueError:
                return  # cut off by a crash
            if line is not None:
                add(line)

        self.program(command, on_line=on_line, **how)


def text_of(printed: bytes, errors, binary: bool) -> str:
    errors.seek(0)
    return (b"" if binary else bytes(printed)).decode(errors="replace") + errors.read().decode(errors="replace")


def program_name(command) -> str:
    return os.path.basename(str(command[0]))


def ending(status: int) -> str:
    return f"ended with {status}" if status >= 0 else f"was ended by signal {-status}"


def excerpt(text: str) -> str:
    """The first words, where a first failure is named, and the last ones."""
    text = text.strip()
    if len(text) <= FIRST_WORDS + LAST_WORDS:
        return text
    return f"{text[:FIRST_WORDS]} [...] {text[-LAST_WORDS:]}"


def explain(failure: Exception) -> str:
    if isinstance(failure, Failed):
        return str(failure)
    traceback.print_exc()  # to the log
    return excerpt(f"{type(failure).__name__}: {failure}")


def read_lines(path: Path, missing_ok: bool = True) -> List[dict]:
    """The results in a file; a line that was cut off, by a full disk or a kill, is left out and named on standard error."""
    lines = []
    if missing_ok and not path.exists():
        return lines
    for text in path.read_text(errors="replace").splitlines():
        if not text:
            continue
        try:
            line = json.loads(text)
        except ValueError:
            print(f"{path.name}: a result was cut off: {text[:60]}", file=sys.stderr)
            continue
        if isinstance(line, dict):
            lines.append(line)
    return lines


def out_of_time(*_) -> None:
    raise OutOfTime("no time left")


def main(run: Callable[[Part], None]) -> None:
    """What a part's module does when it is run as a program."""
    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    parser.add_argument("--device", choices=["cuda", "cpu"], required=True)
    parser.add_argument("--build-dir", type=Path, required=True)
    parser.add_argument("--seconds", type=float, required=True, help="that the part may take")
    parser.add_argument("--earlier", type=Path, required=True, help="lines of the parts before this one")
    parser.add_argument("--programs", type=Path, help="a folder of programs that are used as they are")
    options = parser.parse_args()
    part = Part(options.name, options.device, options.build_dir, options.seconds, read_lines(options.earlier), options.programs)
    result, why = "ok", None
    # What a part does itself, not through a program, ends in time too; Python looks at it between two of its own steps.
    signal.signal(signal.SIGALRM, out_of_time)
    signal.setitimer(signal.ITIMER_REAL, options.seconds + 1)
    try:
        run(part)
    except Skipped as skipped:
        result, why = "skipped", str(skipped)
    except Exception as failure:
        result, why = "failed", explain(failure)
    signal.setitimer(signal.ITIMER_REAL, 0)
    if part.failed:
        why = "; ".join(filter(None, [f"failed: {', '.join(part.failed)}", why]))
        result = "failed"
    part.result("end", result=result, why=why)
