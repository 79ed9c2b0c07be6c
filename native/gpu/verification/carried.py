"""The prepared files for a machine that lacks them: doctest's header, and the programs, built for Hopper.
native/gpu/prepare writes them."""

import hashlib
import json
from pathlib import Path

from .part import NATIVE, Skipped

CARRIED = NATIVE / "build/carried"
DOCTEST = CARRIED / "doctest/doctest.h"
PROGRAMS = CARRIED / "programs"
ORIGIN = CARRIED / "origin.json"  # {"commit", "sources", "architectures"}
SOURCES = {".h", ".cpp", ".cu", ".cuh", ".inl", ".txt"}
NO_SOURCES = ("build", "gpu")  # prefixes of folders that hold no sources; git ignores every build*


def carried_programs() -> Path:
    """The folder of the prepared programs. Raises Skipped if there are none, or if they were built from other
    sources."""
    if not ORIGIN.exists() or not (PROGRAMS / "device_tests").exists():
        raise Skipped(f"there are no prepared programs in {PROGRAMS.relative_to(NATIVE.parent)}")
    if origin().get("sources") != hash_of_sources():
        raise Skipped(f"the prepared programs were built from other sources (commit {origin().get('commit', 'unknown')})")
    return PROGRAMS


def origin() -> dict:
    return json.loads(ORIGIN.read_text()) if ORIGIN.exists() else {}


def hash_of_sources() -> str:
    """A hash of all files that programs are built from, independent of where the checkout lies."""
    total = hashlib.sha256()
    for path in sorted(NATIVE.rglob("*")):
        where = path.relative_to(NATIVE)
        if path.suffix in SOURCES and path.is_file() and not where.parts[0].startswith(NO_SOURCES):
            total.update(f"{where}\0".encode() + path.read_bytes() + b"\0")
    return total.hexdigest()[:16]
