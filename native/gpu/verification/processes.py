"""Programs that are run for a limited time, with everything that they started."""

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

KILLED_WITHIN = 5  # seconds; a process that is stuck in a driver outlives its SIGKILL
PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans() -> None:
    """From now on processes whose parent has ended become this one's, so that end_children() finds them."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


class Quiet(subprocess.TimeoutExpired):
    """A program printed nothing for as long as it may."""


def run_limited(command, limit: float, log: Optional[BinaryIO], input: bytes = b"", on_line: Optional[Callable] = None,
                keep: Optional[bytearray] = None, quiet: float = math.inf, **options) -> int:
    """Returns the exit status, negative for a signal, or raises subprocess.TimeoutExpired after `limit` seconds, Quiet after `quiet`
    seconds in which nothing was printed.
    Standard output goes to `keep`, and line by line, as it comes, to `on_line`; standard error to `log`, or where
    this process's goes without one."""
    deadline = time.monotonic() + limit
    with tempfile.TemporaryFile() as stdin:
        stdin.write(input)
        stdin.seek(0)
        # Not a session of its own: whoever ends this script's session ends its programs too.
        process = subprocess.Popen(command, stdin=stdin, stdout=subprocess.PIPE, stderr=log, **options)
        try:
            read_output(process, deadline, on_line, keep, quiet)
            return process.wait(max(deadline - time.monotonic(), 0))
        finally:
            end_tree(process)


def read_output(process, deadline: float, on_line: Optional[Callable], keep: Optional[bytearray], quiet: float) -> None:
    rest = b""
    heard = time.monotonic()
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                raise subprocess.TimeoutExpired(process.args, 0)
            if time.monotonic() - heard > quiet:
                raise Quiet(process.args, quiet)
            if selector.select(min(left, 0.2)):
                heard = time.monotonic()
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


def end_tree(process) -> None:
    """Kills a process and its descendants. One whose parent is gone already is left to end_children()."""
    for pid in [process.pid, *descendants(process.pid)]:
        kill(pid)
    process.stdout.close()
    try:
        process.wait(KILLED_WITHIN)
    except subprocess.TimeoutExpired:
        pass


def end_children(spare: Optional[int] = None) -> None:
    """Kills every descendant of this process but `spare`, orphans included after adopt_orphans()."""
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
            pass  # another's child, or somebody waited for it


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
            # "PID (NAME) STATE PARENT ..."; the name may hold anything.
            parent = int((entry / "stat").read_text(errors="replace").rpartition(")")[2].split()[1])
        except (OSError, IndexError):
            continue  # it has just ended
        children.setdefault(parent, []).append(int(entry.name))
    found: List[int] = []
    waiting = [ancestor]
    while waiting:
        for pid in children.get(waiting.pop(), []):
            found.append(pid)
            waiting.append(pid)
    return found
