"""What a run was made on, for its first line and for choices that depend on it."""

import platform
import subprocess
import time
from typing import Optional

from .carried import hash_of_sources, origin
from .part import NATIVE


def describe(device: str) -> dict:
    commit = first_line(["git", "-C", str(NATIVE), "rev-parse", "HEAD"])
    if commit == "unknown":  # a copy without history
        commit = origin().get("commit", "unknown")
    found = {"date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "device": device,
             "commit": commit, "sources": hash_of_sources(), "cpu": cpu_name(), "python": platform.python_version()}
    if device == "cuda":
        found["gpu"] = first_line(["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"])
        found["nvcc"] = (first_line(["nvcc", "--version"], last=True))
    return {key: value for key, value in found.items() if value is not None}


def gpu_name() -> str:
    return first_line(["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"])


def hopper() -> bool:
    return first_line(["nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"]) == "9.0"


def cpu_name() -> str:
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        for line in file:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


def first_line(command, limit: Optional[float] = 10, last: bool = False) -> str:
    """Or the last one; "unknown" where the program fails, hangs or is missing."""
    try:
        lines = subprocess.run(command, capture_output=True, text=True, check=True, timeout=limit).stdout.strip().split("\n")
        return lines[-1 if last else 0]
    except (OSError, subprocess.SubprocessError):
        return "unknown"
