"""Runs programs with a time limit, and kills them together with all processes that they started."""

import ctypes
import math
import os
import selectors
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import BinaryIO, Callable, Dict, List, Optional

KILLED_WITHIN = 5  # seconds; a process that is blocked in a driver survives SIGKILL
PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans() -> None:
    """From now on, processes whose parent has ended become children of this process, so that kill_children() finds
    them."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


class OutputTimeout(subprocess.TimeoutExpired):
    """A program printed nothing for too long."""


def run_limited(command, limit: float, log: Optional[BinaryIO], input: bytes = b"", on_line: Optional[Callable] = None,
                keep: Optional[bytearray] = None, output_timeout: float = math.inf, **options) -> int:
    """Returns the exit status, negative for a signal. Raises subprocess.TimeoutExpired after `limit` seconds, and
    OutputTimeout after `output_timeout` seconds without output. Standard output is appended to `keep`, and each line is
    passed to `on_line` immediately. Standard error goes to `log`, or to this process's standard error without one."""
    deadline = time.monotonic() + limit
    with tempfile.TemporaryFile() as stdin:
        stdin.write(input)
        stdin.seek(0)
        # In the same session as this script, so that killing the session kills its programs too.
        process = subprocess.Popen(command, stdin=stdin, stdout=subprocess.PIPE, stderr=log, **options)
        try:
            read_output(process, deadline, on_line, keep, output_timeout)
            return process.wait(max(deadline - time.monotonic(), 0))
        finally:
            kill_tree(process)


def read_output(process, deadline: float, on_line: Optional[Callable], keep: Optional[bytearray], output_timeout: float) -> None:
    rest = b""
    last_output = time.monotonic()
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                raise subprocess.TimeoutExpired(process.args, 0)
            if time.monotonic() - last_output > output_timeout:
                raise OutputTimeout(process.args, output_timeout)
            if selector.select(min(left, 0.2)):
                last_output = time.monotonic()
                data = os.read(process.stdout.fileno(), 1 << 16)
                if not data:
                    break
                if keep is not None:
                    keep += data
                *lines, rest = (rest + data).split(b"\n")
                for line in lines if on_line else []:
                    on_line(line.decode(errors="replace"))
            elif process.poll() is not None:
                break  # a process that it started keeps the pipe open
    if rest and on_line:
        on_line(rest.decode(errors="replace"))


def kill_tree(process) -> None:
    """Kills a process and its descendants. kill_children() kills those whose parent has already ended."""
    for pid in [process.pid, *descendants(process.pid)]:
        kill(pid)
    process.stdout.close()
    try:
        process.wait(KILLED_WITHIN)
    except subprocess.TimeoutExpired:
        pass


def kill_children(spare: Optional[int] = None) -> None:
    """Kills every descendant of this process except `spare`; after adopt_orphans() also orphans."""
    deadline = time.monotonic() + KILLED_WITHIN
    while time.monotonic() < deadline:
        left = [pid for pid in descendants(os.getpid()) if pid != spare]
        if not left:
            return
        for pid in left:
            kill(pid)
        reap(left)
        time.sleep(0.02)


def reap(pids: List[int]) -> None:
    for pid in pids:
        try:
            os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            pass  # not a child of this process, or already waited for


def kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def descendants(ancestor: int) -> List[int]:
    children: Dict[int, List[int]] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            # "PID (NAME) STATE PARENT ..."; the name may contain any character.
            parent = int((entry / "stat").read_text(errors="replace").rpartition(")")[2].split()[1])
        except (OSError, IndexError):
            continue  # the process has just ended
        children.setdefault(parent, []).append(int(entry.name))
    found: List[int] = []
    waiting = [ancestor]
    while waiting:
        for pid in children.get(waiting.pop(), []):
            found.append(pid)
            waiting.append(pid)
    return found
