"""Times smaller weights and a smaller KV cache at 1 and 32 rows, where they should help most."""

from ..bench_steps import time_steps
from ..cases import OWN, SHARED
from ..floors import BF16_FP8_KV, FP8, INT4, INT8
from ..part import Part, main

CASES = [f"decode {rows} {SHARED} {OWN}" for rows in (1, 32)]


def run(part: Part) -> None:
    for format in (INT4, FP8, INT8, BF16_FP8_KV):
        if format.runs_on(part.device):
            with part.attempt(format.name):
                time_steps(part, format, CASES)
        else:
            part.skip(format.name, "only CUDA devices support it")


if __name__ == "__main__":
    main(run)
