"""Keeps an idle CUDA context open. Without one, the driver shuts the device down whenever the last program on it ends,
and each program waits until the device is initialised again. As a program it opens the context, prints a line and waits
until it is killed."""

import ctypes
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import Iterator, Optional

from .part import NATIVE
from .processes import kill

START_SECONDS = 10
PR_SET_PDEATHSIG = 1


@contextmanager
def idle_context(results, device: str) -> Iterator[Optional[int]]:
    """Yields the id of the process that keeps the context open, or None without one. Without one programs start
    slower."""
    if device != "cuda":
        yield None
        return
    began = time.monotonic()
    process = subprocess.Popen([sys.executable, "-m", "verification.context"], stdout=subprocess.PIPE, stderr=results.log,
                               stdin=subprocess.DEVNULL, cwd=NATIVE / "gpu")
    try:
        line = first_line_within(process, START_SECONDS)
        results.add({"part": "verify", "case": "idle context", "result": "ok" if line == "open" else "failed",
                     **({} if line == "open" else {"why": line}), "seconds": round(time.monotonic() - began, 1)})
        yield process.pid
    finally:
        kill(process.pid)


def first_line_within(process, seconds: float) -> str:
    import selectors

    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        if not selector.select(seconds):
            return f"the driver opened no context within {seconds:g} s"
    return process.stdout.readline().decode(errors="replace").strip() or "the process exited; the reason is in the log"


def main() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)  # so that it ends even if the script is killed
    cuda = ctypes.CDLL("libcuda.so.1")
    device, context = ctypes.c_int(), ctypes.c_void_p()
    for name, call in [("cuInit", lambda: cuda.cuInit(0)),
                       ("cuDeviceGet", lambda: cuda.cuDeviceGet(ctypes.byref(device), 0)),
                       ("cuDevicePrimaryCtxRetain", lambda: cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), device))]:
        status = call()
        if status != 0:
            print(f"{name} failed with {status}", flush=True)
            return
    print("open", flush=True)
    while True:
        time.sleep(60)


if __name__ == "__main__":
    main()
