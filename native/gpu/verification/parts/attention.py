"""Times whole steps with shared attention, with plain paged attention, and with the one that the cost rule chooses
(docs/adr/0015), to find where one becomes faster than the other. Part kernels times the attention kernels alone."""

from ..bench_steps import time_steps
from ..cases import OWN, SHARED
from ..floors import BF16
from ..part import Part, Skipped, main

# Rows, shared tokens, own tokens. The first prompts are as short as a chunk, where sharing saves least.
CASES = [(2, 64, 192), (8, 64, 192), (2, SHARED, OWN), (32, SHARED, OWN), (128, SHARED, OWN), (350, SHARED, OWN)]


def run(part: Part) -> None:
    if not part.cuda:
        raise Skipped("the CPU backend always shares")
    cases = [f"decode {rows} {shared} {own}" for rows, shared, own in CASES]
    for choice in ("shared", "plain", "auto"):
        with part.attempt(choice):
            time_steps(part, BF16, cases, {"APAR_CUDA_ATTENTION": choice}, attention=choice)


if __name__ == "__main__":
    main(run)
