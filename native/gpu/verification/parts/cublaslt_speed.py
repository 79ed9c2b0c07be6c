"""Long prompts' products by cuBLASLt: beside the same products of our kernels in part kernels."""

from ..bench_kernels import time_kernels
from ..libraries import library_environment
from ..part import Part, Skipped, main

ROWS = [1024, 2048]


def run(part: Part) -> None:
    if not part.cuda:
        raise Skipped("cuBLASLt multiplies on a GPU; what surrounds it was tested in part cublaslt")
    environment = library_environment("libcublasLt", "APAR_CUBLASLT_LIBRARY")
    for layer in ("qkv", "down"):
        time_kernels(part, ["gemm", "cublaslt", "bf16", layer, *ROWS], environment)


if __name__ == "__main__":
    main(run)
