"""Measures the device's highest rates with PyTorch in its own process: bytes/s of a copy (read and written), and FLOP/s
of a bf16 product. If PyTorch cannot measure them, rates are assumed for the device and marked `assumed`."""

import json
import sys

from ..floors import assumed
from ..machine import gpu_of
from ..part import NATIVE, Failed, OutOfTime, Part, Skipped, main

CASE = "ceilings"
COPIED = 1 << 31  # bytes; many times the size of the cache
SIDE = 8192  # of the matrices
SAMPLES = 20
MEASURE_SECONDS = 20
MAX_CHARACTERS = 300  # of a failure's output: its end has the reason
END_SECONDS = 2  # reserved for reporting the assumed rates


def run(part: Part) -> None:
    if not part.cuda:
        raise Skipped("floors are measured on a GPU")
    found: dict = {}
    try:
        program = [sys.executable, "-c", "from verification.parts.floors import measure; measure()"]
        part.results(program, found.update, cwd=NATIVE / "gpu", limit=max(min(MEASURE_SECONDS, part.seconds_left() - END_SECONDS), 1))
        if not found:
            raise Failed("nothing was printed")
    except (Failed, OutOfTime) as failure:
        name = gpu_of(part).get("gpu", "unknown")
        known = assumed(name)
        if known is None:
            raise Skipped(f"not measured, and no rates are known for {name}: {str(failure)[-MAX_CHARACTERS:]}") from None
        found = {**known, "gpu": name, "why": str(failure)[-MAX_CHARACTERS:]}
    part.result(CASE, **found)


def measure() -> None:
    """Prints the rates, which `run` adds to the results."""
    import torch

    from ..torch_timing import median_seconds

    def random_matrix():
        return torch.randn(SIDE, SIDE, dtype=torch.bfloat16, device="cuda")

    source = torch.empty(COPIED, dtype=torch.int8, device="cuda").random_()
    target = torch.empty_like(source)
    copied = 2 * COPIED / median_seconds(lambda: target.copy_(source), "cuda", SAMPLES)
    a, b, c = random_matrix(), random_matrix(), random_matrix()
    flop = 2 * SIDE**3 / median_seconds(lambda: torch.mm(a, b, out=c), "cuda", SAMPLES)
    print(json.dumps({"copy_bytes_per_s": copied, "bf16_flop_per_s": flop, "gpu": torch.cuda.get_device_name(),
                      "torch": torch.__version__}), flush=True)


if __name__ == "__main__":
    main(run)
