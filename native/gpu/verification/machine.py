"""What a run was made on, for its first line and for choices that depend on it."""

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
    """The first GPU's name, compute capability ("9.0"), driver and memory: what nvidia-smi says, else what the driver's library
    says to a process of its own."""
    names = ["gpu", "capability", "driver", "memory"]
    said = first_line([find_tool("nvidia-smi"), "--query-gpu=name,compute_cap,driver_version,memory.total", "--format=csv,noheader"])
    if said == "unknown":
        said = first_line([sys.executable, "-m", "verification.machine"], limit=20, cwd=NATIVE / "gpu")
    return dict(zip(names, (word.strip() for word in said.split(","))))


def gpu_of(part: Part) -> dict:
    """As the run's first line has it: nobody asks the driver again."""
    begin = part.earlier("verify", "begin")
    return begin if begin and "capability" in begin else gpu()


def is_hopper(part: Part) -> bool:
    return gpu_of(part).get("capability") == "9.0"


def find_tool(name: str) -> str:
    """Its path; the name alone where it was not found."""
    places = ["/usr/local/cuda/bin", "/usr/local/nvidia/bin"]
    return shutil.which(name) or next((f"{place}/{name}" for place in places if Path(place, name).exists()), name)


def cpu_name() -> str:
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        for line in file:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


def first_line(command, limit: Optional[float] = 10, last: bool = False, cwd: Optional[Path] = None) -> str:
    """Or the last one; "unknown" where the program fails, hangs or is missing."""
    try:
        lines = subprocess.run(command, capture_output=True, text=True, check=True, errors="replace", timeout=limit, cwd=cwd).stdout.strip().split("\n")
        return lines[-1 if last else 0]
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
            sys.exit(f"the driver said {status}")
    print(f"{name.value.decode()}, {major.value}.{minor.value}")


if __name__ == "__main__":
    main()
