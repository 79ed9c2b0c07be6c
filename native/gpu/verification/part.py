"""The interface of a part of the verification. The runner starts each part in its own process (`python3 -m
verification.parts.NAME`) and kills it if necessary, so that a part which crashes or hangs does not affect the others.

A part prints each result immediately as one JSON object per line on standard output; the last line is the part's own
result. The output of programs goes to standard error, which the runner saves as the log."""

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

from .processes import OutputTimeout, run_limited

NATIVE = Path(__file__).resolve().parents[2]
PROGRAM_SECONDS = 60  # the default time limit of a program
MIN_SECONDS = 1  # with less time left, nothing is started
MAX_LOGGED = 200_000  # characters of one program
FIRST_CHARACTERS, LAST_CHARACTERS = 900, 300  # of a failed program's output that its result keeps


class Skipped(Exception):
    """Something cannot run here. The message is the reason."""


class OutOfTime(Skipped):
    """The part's time is used up."""


class Failed(Exception):
    """A check failed, or a program exited with an error."""


class Part:
    """`device` is cuda or cpu. `programs` is the folder of the built programs, `given_programs` the folder from the
    command line, if any. The part may write its own files to `build_dir`."""

    def __init__(self, name: str, device: str, build_dir: Path, seconds: float, earlier: List[dict],
                 given_programs: Optional[Path] = None) -> None:
        self.name = name
        self.device = device
        self.build_dir = build_dir
        self.deadline = time.monotonic() + seconds
        self.earlier_lines = earlier
        self.failed: List[str] = []
        self.log = sys.stderr
        self.output = ""  # of the last program, including standard error
        self.given_programs = given_programs
        built = self.earlier("build", "programs")
        self.programs = given_programs or (Path(built["folder"]) if built else build_dir)

    @property
    def cuda(self) -> bool:
        return self.device == "cuda"

    def seconds_left(self) -> float:
        return self.deadline - time.monotonic()

    def earlier(self, part: str, case: str) -> Optional[dict]:
        """The last result of this case from an earlier part, also of an earlier phase."""
        for line in reversed(self.earlier_lines):
            if line.get("part") == part and line.get("case") == case:
                return line
        return None

    def result(self, case: str, **fields) -> None:
        """Adds a result. `detail=True` marks a line that is only written to the results file and not printed, because
        the caller of the script sees only the end of its output."""
        known = {key: value for key, value in fields.items() if value is not None}
        print(json.dumps({"part": self.name, "case": case, **known}), flush=True)

    def fail(self, case: str, why: str, **fields) -> None:
        self.failed.append(case)
        self.result(case, result="failed", why=why, **fields)

    def skip(self, case: str, why: str) -> None:
        self.result(case, result="skipped", why=why)

    @contextmanager
    def attempt(self, case: str):
        """Runs one case. If it fails, the part fails, but the part's other cases still run."""
        try:
            yield
        except OutOfTime:
            raise
        except Skipped as skipped:
            self.skip(case, str(skipped))
        except Exception as failure:
            self.fail(case, explain(failure))

    def program(self, command, limit: float = PROGRAM_SECONDS, binary: bool = False, **how) -> bytes:
        """Runs a program to its end and returns its standard output. Raises Failed with an excerpt of the output if it
        exits with an error or takes longer than `limit` seconds, and OutOfTime if the part's deadline ends it. The log
        has the whole output, unless it is `binary`."""
        status, printed = self.run(command, limit, binary, **how)
        if status != 0:
            raise Failed(f"{program_name(command)} {ending(status)}: {excerpt(self.output)}")
        return printed

    def run(self, command, limit: float = PROGRAM_SECONDS, binary: bool = False, **how) -> Tuple[int, bytes]:
        """Returns the exit status and the standard output. Sets `output` to standard output, unless that is `binary`,
        and standard error. Raises like program() when the time is up."""
        command = [str(word) for word in command]
        left = self.seconds_left()
        if left < MIN_SECONDS:
            raise OutOfTime("no time left")
        self.write_log(f"$ {' '.join(command)}"[:400])
        printed = bytearray()
        with tempfile.TemporaryFile() as errors:
            try:
                try:
                    return run_limited(command, min(limit, left), errors, keep=printed, **how), bytes(printed)
                finally:
                    self.output = text_of(printed, errors, binary)
                    self.write_log(self.output)
            except OutputTimeout as silent:
                raise Failed(f"{program_name(command)} printed nothing for {silent.timeout:g} s; its output before: "
                             f"{excerpt(self.output)}") from None
            except subprocess.TimeoutExpired:
                if left < limit:
                    raise OutOfTime(f"no time left: {program_name(command)} was killed after {left:.0f} s") from None
                raise Failed(f"{program_name(command)} took longer than {limit:g} s; its output: {excerpt(self.output)}") from None

    def write_log(self, text: str) -> None:
        """The middle of a long text is omitted, so that one program cannot fill the log."""
        if len(text) > MAX_LOGGED:
            omitted = f"[{len(text) - MAX_LOGGED} characters are omitted]"
            text = f"{text[:MAX_LOGGED // 2]}\n{omitted}\n{text[-MAX_LOGGED // 2:]}"
        try:
            self.log.write(text + "\n")
            self.log.flush()
        except OSError:
            pass  # a full disk must not end the part

    def results(self, command, add: Callable[[dict], None], **how) -> None:
        """Calls `add` with each JSON object that a program prints, immediately, so that those before a hang or a crash
        count."""
        def on_line(text: str) -> None:
            try:
                line = json.loads(text) if text.startswith("{") else None
            except ValueError:
                return  # truncated by a crash
            if line is not None:
                add(line)

        self.program(command, on_line=on_line, **how)


def text_of(printed: bytes, errors, binary: bool) -> str:
    errors.seek(0)
    return (b"" if binary else bytes(printed)).decode(errors="replace") + errors.read().decode(errors="replace")


def program_name(command) -> str:
    return os.path.basename(str(command[0]))


def ending(status: int) -> str:
    return f"exited with {status}" if status >= 0 else f"was killed by signal {-status}"


def excerpt(text: str) -> str:
    """The beginning of the text, which names the first failure, and its end."""
    text = text.strip()
    if len(text) <= FIRST_CHARACTERS + LAST_CHARACTERS:
        return text
    return f"{text[:FIRST_CHARACTERS]} [...] {text[-LAST_CHARACTERS:]}"


def explain(failure: Exception) -> str:
    if isinstance(failure, Failed):
        return str(failure)
    traceback.print_exc()  # to the log
    return excerpt(f"{type(failure).__name__}: {failure}")


def read_lines(path: Path, missing_ok: bool = True) -> List[dict]:
    """The results in a file. A line that was truncated, by a full disk or a kill, is skipped and reported on standard
    error."""
    lines = []
    if missing_ok and not path.exists():
        return lines
    for text in path.read_text(errors="replace").splitlines():
        if not text:
            continue
        try:
            line = json.loads(text)
        except ValueError:
            print(f"{path.name}: a result is truncated: {text[:60]}", file=sys.stderr)
            continue
        if isinstance(line, dict):
            lines.append(line)
    return lines


def out_of_time(*_) -> None:
    raise OutOfTime("no time left")


def main(run: Callable[[Part], None]) -> None:
    """The main function of a part's module."""
    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    parser.add_argument("--device", choices=["cuda", "cpu"], required=True)
    parser.add_argument("--build-dir", type=Path, required=True)
    parser.add_argument("--seconds", type=float, required=True, help="the part's time limit")
    parser.add_argument("--earlier", type=Path, required=True, help="a file with the results of earlier parts")
    parser.add_argument("--programs", type=Path, help="a folder of built programs")
    options = parser.parse_args()
    part = Part(options.name, options.device, options.build_dir, options.seconds, read_lines(options.earlier), options.programs)
    result, why = "ok", None
    # Also limits the part's own Python code. The signal is handled between two bytecode instructions.
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
