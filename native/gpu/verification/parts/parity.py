"""Tests every kernel against its host version, whole models and trees against the CPU backend, the bits of rows alone
and with other rows, steps without graphs, captured and replayed, and the branching invariant."""

from ..diagnosis import Diagnosis
from ..environments import environment_of
from ..part import Part, main
from ..tests_on_device import PARITY_TESTS, SMOKE_TEST, run_test

CASE_SECONDS = 20
DIAGNOSIS_SECONDS = 60


def run(part: Part) -> None:
    smoke = part.earlier("smoke", "end")
    smoke_passed = smoke is not None and smoke["result"] == "ok"
    diagnosis = Diagnosis(part, DIAGNOSIS_SECONDS)
    for test in PARITY_TESTS if smoke_passed else [SMOKE_TEST, *PARITY_TESTS]:
        environment = environment_of("parity", test)
        with part.attempt(test):
            run_test(part, test, CASE_SECONDS, environment, diagnosis.of(test, environment))


if __name__ == "__main__":
    main(run)
