"""Describes the machine of a run, for its first line and for decisions that depend on the device."""

import ctypes
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Optional

from .carried import hash_of_sources, origin
from .part import NATIVE, Part

MAJOR, MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, _MINOR


def describe(device: str) -> dict:
    commit = first_line(["git", "-C", str(NATIVE), "rev-parse", "HEAD"])
    if commit == "unknown":  # a copy without history
        commit = origin().get("commit", "unknown")
    found = {"date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "device": device,
             "commit": commit, "sources": hash_of_sources(), "cpu": cpu_name(), "python": platform.python_version()}
    if device == "cuda":
        found.update(gpu())
        found["nvcc"] = first_line([find_tool("nvcc"), "--version"], last=True)
    return found


def gpu() -> dict:
    """The first GPU's name, compute capability ("9.0"), driver and memory as reported by nvidia-smi. If that fails, the
    name and the capability as reported by the driver's library, which is called in a separate process."""
    names = ["gpu", "capability", "driver", "memory"]
    query = "--query-gpu=name,compute_cap,driver_version,memory.total"
    line = first_line([find_tool("nvidia-smi"), query, "--format=csv,noheader"])
    if line == "unknown":
        line = first_line([sys.executable, "-m", "verification.machine"], limit=20, cwd=NATIVE / "gpu")
    return dict(zip(names, (word.strip() for word in line.split(","))))


def gpu_of(part: Part) -> dict:
    """The GPU from the run's first line, so that the driver is queried only once."""
    begin = part.earlier("verify", "begin")
    return begin if begin and "capability" in begin else gpu()


def is_hopper(part: Part) -> bool:
    return gpu_of(part).get("capability") == "9.0"


def find_tool(name: str) -> str:
    """The tool's path, or its name alone if it was not found."""
    places = ["/usr/local/cuda/bin", "/usr/local/nvidia/bin"]
    return shutil.which(name) or next((f"{place}/{name}" for place in places if Path(place, name).exists()), name)


def cpu_name() -> str:
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        for line in file:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


def first_line(command, limit: Optional[float] = 10, last: bool = False, cwd: Optional[Path] = None) -> str:
    """The first line that a program prints, or the last one; "unknown" if the program fails, hangs or is missing."""
    try:
        run = subprocess.run(command, capture_output=True, text=True, check=True, errors="replace", timeout=limit, cwd=cwd)
        return run.stdout.strip().split("\n")[-1 if last else 0]
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def main() -> None:
    """Prints the name and the capability of the driver's first device."""
    cuda = ctypes.CDLL("libcuda.so.1")
    device, name = ctypes.c_int(), ctypes.create_string_buffer(100)
    major, minor = ctypes.c_int(), ctypes.c_int()
    for status in (cuda.cuInit(0), cuda.cuDeviceGet(ctypes.byref(device), 0), cuda.cuDeviceGetName(name, 100, device),
                   cuda.cuDeviceGetAttribute(ctypes.byref(major), MAJOR, device),
                   cuda.cuDeviceGetAttribute(ctypes.byref(minor), MINOR, device)):
        if status != 0:
            sys.exit(f"the driver returned {status}")
    print(f"{name.value.decode()}, {major.value}.{minor.value}")


if __name__ == "__main__":
    main()
