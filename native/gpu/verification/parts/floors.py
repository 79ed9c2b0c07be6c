"""What the device reaches at most, measured by PyTorch in a process of its own: bytes/s of a copy (read and written), FLOP/s of a
bf16 product. Where PyTorch cannot, what is assumed of the device, marked so."""

import json
import sys

from ..floors import assumed
from ..machine import gpu_of
from ..part import NATIVE, Failed, OutOfTime, Part, Skipped, main

CASE = "ceilings"
COPIED = 1 << 31  # bytes, many times the cache
SIDE = 8192  # of the matrices
SAMPLES = 20
MEASURE_SECONDS = 20
WORDS = 300  # of a failure: its end says why
END_SECONDS = 2  # kept back for saying what is assumed


def run(part: Part) -> None:
    if not part.cuda:
        raise Skipped("the floors are a GPU's")
    found: dict = {}
    try:
        program = [sys.executable, "-c", "from verification.parts.floors import measure; measure()"]
        part.results(program, found.update, cwd=NATIVE / "gpu", limit=max(min(MEASURE_SECONDS, part.left() - END_SECONDS), 1))
        if not found:
            raise Failed("nothing was printed")
    except (Failed, OutOfTime) as failure:
        name = gpu_of(part).get("gpu", "unknown")
        known = assumed(name)
        if known is None:
            raise Skipped(f"not measured, and nothing is known of {name}: {str(failure)[-WORDS:]}") from None
        found = {**known, "gpu": name, "why": str(failure)[-WORDS:]}
    part.result(CASE, **found)


def measure() -> None:
    """Prints what `run` hands on."""
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
