"""Tests kernels that begin before the earlier ones have ended (APAR_CUDA_PDL, docs/adr/0086). Then times steps with them,
and steps with SwiGLU in a kernel of its own (APAR_CUDA_FUSION, docs/adr/0085), to compare with part steps."""

from ..bench_steps import time_steps
from ..cases import OWN, SHARED
from ..floors import BF16
from ..part import Part, main
from ..tests_on_device import OVERLAP_TEST, run_test

CASES = [f"decode {rows} {SHARED} {OWN}" for rows in (1, 32)]
CASE_SECONDS = 15


def run(part: Part) -> None:
    if part.cuda:
        with part.attempt("fusion"):
            time_steps(part, BF16, CASES, {"APAR_CUDA_GEMM": "mma", "APAR_CUDA_FUSION": "off"}, fusion="off")
    passed = run_test(part, OVERLAP_TEST, CASE_SECONDS, {"APAR_CUDA_GEMM": "mma"})
    if part.cuda and passed and not part.failed:
        time_steps(part, BF16, CASES, {"APAR_CUDA_GEMM": "mma", "APAR_CUDA_PDL": "on"}, pdl="on")


if __name__ == "__main__":
    main(run)
