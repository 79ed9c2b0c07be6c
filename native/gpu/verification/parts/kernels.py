"""Times attention and matrix products alone, at several numbers of rows."""

from ..bench_kernels import time_kernels
from ..part import Part, Skipped, main

ATTENTION_ROWS = [1, 8, 32, 128, 350]
ROWS = [1, 4, 8, 16, 32, 64, 128, 384, 512, 2048]


def run(part: Part) -> None:
    if not part.cuda:
        raise Skipped("kernels are timed only on a GPU")
    for sharing in ("shared", "plain"):
        time_kernels(part, ["attention", sharing, *ATTENTION_ROWS])
    wgmma = part.earlier("wgmma", "end")
    for choice in ["mma", *(["wgmma"] if wgmma and wgmma["result"] == "ok" else [])]:
        for layer in ("qkv", "down"):
            time_kernels(part, ["gemm", choice, "bf16", layer, *ROWS])


if __name__ == "__main__":
    main(run)
