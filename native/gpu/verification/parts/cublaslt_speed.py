"""Times the products of long prompts with cuBLASLt. Part kernels times the same products with our kernels."""

from ..bench_kernels import time_kernels
from ..libraries import library_environment
from ..part import Part, Skipped, main

ROWS = [512, 1024, 2048]


def run(part: Part) -> None:
    if not part.cuda:
        raise Skipped("cuBLASLt needs a GPU; part cublaslt tests our calls of it")
    environment = library_environment("libcublasLt", "APAR_CUBLASLT_LIBRARY")
    for layer in ("qkv", "down"):
        time_kernels(part, ["gemm", "cublaslt", "bf16", layer, *ROWS], environment)


if __name__ == "__main__":
    main(run)
