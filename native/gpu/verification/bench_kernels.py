"""Times single kernels (native/bench/cuda/kernels.cu), each kind in its own process."""

import os
from typing import Dict, List, Optional

from .floors import ceilings
from .part import Part

SECONDS = 30


def time_kernels(part: Part, arguments: List, environment: Optional[Dict[str, str]] = None) -> None:
    """Adds one line per number of rows, with its shares of the device's measured rates. A failure does not affect later
    calls."""
    known = ceilings(part)

    def add(line: dict) -> None:
        if known:
            line["share_of_copy"] = round(line["bytes_per_s"] / known["copy_bytes_per_s"], 3)
            line["share_of_product"] = round(line["flop_per_s"] / known["bf16_flop_per_s"], 3)
        part.result(**line)

    with part.attempt(" ".join(map(str, arguments))):
        part.results([part.programs / "apar_bench_kernels", *arguments], add, limit=SECONDS, env={**os.environ, **(environment or {})})
