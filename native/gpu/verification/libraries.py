"""Finds shared libraries within PyTorch's packages, where the dynamic loader does not search."""

import importlib.util
import os
from pathlib import Path
from typing import Dict


def find_library(name: str, variable: str) -> str:
    """The file that the environment variable `variable` names, else one of PyTorch's, else "". With "" the loader's own
    search is left to the program."""
    if variable in os.environ:
        return os.environ[variable]
    for folder in library_folders():
        for path in sorted(folder.glob(f"{name}.so*")):
            return str(path)
    return ""


def library_folders():
    for package, pattern in [("nvidia", "*/lib"), ("torch", "lib")]:  # nvidia/cublas/lib, since CUDA 13 nvidia/cu13/lib
        found = importlib.util.find_spec(package)
        for place in (found.submodule_search_locations or []) if found else []:
            yield from sorted(Path(place).glob(pattern))


def library_environment(name: str, variable: str) -> Dict[str, str]:
    """The environment variable that names the library for a program; empty if only the loader can find it."""
    found = find_library(name, variable)
    return {variable: found} if found else {}
