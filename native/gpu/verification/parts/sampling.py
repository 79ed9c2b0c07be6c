"""Times sampling on the device at temperature 0.8 and top_p 0.95: the kernel alone, and whole steps compared with
greedy ones."""

from ..bench_kernels import time_kernels
from ..bench_steps import time_steps
from ..cases import OWN, SHARED
from ..floors import BF16
from ..part import Part, main

ROWS = [1, 32, 350]


def run(part: Part) -> None:
    if part.cuda:
        time_kernels(part, ["draw", *ROWS])
    cases = [f"{kind} {rows} {SHARED} {OWN}{more}" for rows in ROWS for kind, more in [("decode", ""), ("sample", " 0.8 0.95")]]
    time_steps(part, BF16, cases)


if __name__ == "__main__":
    main(run)
