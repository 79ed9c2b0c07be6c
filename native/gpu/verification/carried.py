"""What is carried along to a machine that lacks it: doctest's header, and the programs, built before for Hopper. Made by
native/gpu/prepare."""

import hashlib
import json
from pathlib import Path

from .part import NATIVE, Skipped

CARRIED = NATIVE / "build/carried"
DOCTEST = CARRIED / "doctest/doctest.h"
PROGRAMS = CARRIED / "programs"
ORIGIN = CARRIED / "origin.json"  # {"commit", "sources", "architectures"}
SOURCES = {".h", ".cpp", ".cu", ".cuh", ".inl", ".txt"}
NO_SOURCES = ("build", "gpu")  # and folders that begin so: git ignores every build*


def carried_programs() -> Path:
    """Their folder. Raises Skipped when there are none, or none of these sources."""
    if not ORIGIN.exists() or not (PROGRAMS / "device_tests").exists():
        raise Skipped(f"no programs are carried along in {PROGRAMS.relative_to(NATIVE.parent)}")
    if origin().get("sources") != hash_of_sources():
        raise Skipped(f"the carried programs are of other sources (commit {origin().get('commit', 'unknown')})")
    return PROGRAMS


def origin() -> dict:
    return json.loads(ORIGIN.read_text()) if ORIGIN.exists() else {}


def hash_of_sources() -> str:
    """Of everything that programs are built from, wherever the checkout lies."""
    total = hashlib.sha256()
    for path in sorted(NATIVE.rglob("*")):
        where = path.relative_to(NATIVE)
        if path.suffix in SOURCES and path.is_file() and not where.parts[0].startswith(NO_SOURCES):
            total.update(f"{where}\0".encode() + path.read_bytes() + b"\0")
    return total.hexdigest()[:16]
