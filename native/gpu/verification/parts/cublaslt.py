"""cuBLASLt's products of long prompts (docs/adr/0014) against the host's."""

from ..diagnosis import diagnosis
from ..libraries import library_environment
from ..part import Part, main
from ..tests_on_device import CUBLASLT_TEST, run_test

CASE_SECONDS = 20


def run(part: Part) -> None:
    environment = library_environment("libcublasLt", "APAR_CUBLASLT_LIBRARY") if part.cuda else {}
    run_test(part, CUBLASLT_TEST, CASE_SECONDS, environment, diagnosis(part, CUBLASLT_TEST, environment, seconds=50))


if __name__ == "__main__":
    main(run)
