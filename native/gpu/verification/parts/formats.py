"""Times smaller weights and a smaller KV cache at 1 and 32 rows, where they should help most."""

from ..bench_steps import time_steps
from ..cases import OWN, SHARED
from ..floors import BF16_FP8_KV, FP8, INT4, INT4_G128, INT8
from ..part import Part, main

CASES = [f"decode {rows} {SHARED} {OWN}" for rows in (1, 32)]


def run(part: Part) -> None:
    # int8 last: no goal needs it, if the time is short.
    for format in (FP8, INT4_G128, INT4, BF16_FP8_KV, INT8):
        if format.runs_on(part.device):
            with part.attempt(format.name):
                time_steps(part, format, CASES)
        else:
            part.skip(format.name, "only CUDA devices support it")


if __name__ == "__main__":
    main(run)
