"""Runs programs that may hang: each with a limit, after which it and what it started are ended."""

import os
import selectors
import signal
import subprocess
import tempfile
import time
from typing import BinaryIO, Callable, Optional

KILLED_WITHIN = 5  # seconds; what is stuck in a driver outlives its SIGKILL


def run_limited(command, limit: float, log: BinaryIO, input: bytes = b"", on_line: Optional[Callable] = None,
                keep: Optional[bytearray] = None, **options) -> int:
    """Returns the exit status, or raises subprocess.TimeoutExpired. Standard output goes to `keep`, and line by line, as it
    comes, to `on_line`; standard error to `log`."""
    deadline = time.monotonic() + limit
    with tempfile.TemporaryFile() as stdin:
        stdin.write(input)
        stdin.seek(0)
        # A group, not a session: whoever ends this script's session ends its programs too.
        process = subprocess.Popen(command, stdin=stdin, stdout=subprocess.PIPE, stderr=log, process_group=0, **options)
        try:
            read_output(process, deadline, on_line, keep)
            return process.wait(max(deadline - time.monotonic(), 0))
        finally:
            end_group(process)


def read_output(process, deadline: float, on_line: Optional[Callable], keep: Optional[bytearray]) -> None:
    rest = b""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                raise subprocess.TimeoutExpired(process.args, 0)
            if selector.select(min(left, 0.2)):
                data = os.read(process.stdout.fileno(), 1 << 16)
                if not data:
                    break
                if keep is not None:
                    keep += data
                *lines, rest = (rest + data).split(b"\n")
                for line in lines if on_line else []:
                    on_line(line.decode(errors="replace"))
            elif process.poll() is not None:
                break  # one that it started holds the pipe open
    if rest and on_line:
        on_line(rest.decode(errors="replace"))


def end_group(process) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.stdout.close()
    try:
        process.wait(KILLED_WITHIN)
    except subprocess.TimeoutExpired:
        pass
