"""Tests the products of cuBLASLt for long prompts (docs/adr/0014) against the host's."""

from ..diagnosis import Diagnosis
from ..environments import environment_of
from ..part import Part, main
from ..tests_on_device import CUBLASLT_TEST, run_test

CASE_SECONDS = 20
DIAGNOSIS_SECONDS = 25


def run(part: Part) -> None:
    environment = environment_of("cublaslt", CUBLASLT_TEST) if part.cuda else {}
    run_test(part, CUBLASLT_TEST, CASE_SECONDS, environment, Diagnosis(part, DIAGNOSIS_SECONDS).of(CUBLASLT_TEST, environment))


if __name__ == "__main__":
    main(run)
