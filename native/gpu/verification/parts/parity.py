"""Every kernel against its twin on the host, whole models and trees against the CPU backend, bit by bit alone and together; steps
without graphs, recorded and replayed; the branching invariant."""

from ..diagnosis import diagnosis
from ..part import Part, main
from ..tests_on_device import PARITY_TESTS, SMOKE_TEST, run_test

CASE_SECONDS = 20
# The products that hold the branching invariant; the others have parts of their own.
ENVIRONMENT = {"APAR_CUDA_GEMM": "mma"}


def run(part: Part) -> None:
    smoke = part.earlier("smoke", "end")
    shown = smoke is not None and smoke["result"] == "ok"
    for test in PARITY_TESTS if shown else [SMOKE_TEST, *PARITY_TESTS]:
        with part.attempt(test):
            run_test(part, test, CASE_SECONDS, ENVIRONMENT, diagnosis(part, test, ENVIRONMENT))


if __name__ == "__main__":
    main(run)
