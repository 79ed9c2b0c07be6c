"""Times steps of a Llama-7B shape in bf16 and compares them with the floor from the device's bandwidth and product
rate."""

from ..bench_steps import time_steps
from ..cases import STANDARD_CASES
from ..floors import BF16
from ..part import Part, main

def run(part: Part) -> None:
    time_steps(part, BF16, STANDARD_CASES, {"APAR_CUDA_GEMM": "mma"}, gemm="mma")


if __name__ == "__main__":
    main(run)
