"""compute-sanitizer on the kernels' tests that are green: what they do wrong without a wrong result. Whole models add no kernel."""

from ..diagnosis import sanitize
from ..part import OutOfTime, Part, Skipped, main
from ..tests_on_device import list_cases

TESTS = ["test_cuda_smoke", "test_cuda_elementwise", "test_cuda_rope", "test_cuda_draw", "test_cuda_attention", "test_cuda_gemm"]
FINDINGS = ("ERROR SUMMARY: 0 errors", "RACECHECK SUMMARY: 0 hazards")


def run(part: Part) -> None:
    if not part.cuda:
        raise Skipped("compute-sanitizer watches a GPU; the emulator looks for races and bounds in part parity")
    for tool in ("memcheck", "racecheck"):
        for test in TESTS:
            for case in list_cases(part, test):
                name = f"{tool}, {test}: {case}"
                with part.attempt(name):
                    said = sanitize(part, tool, test, case, None)
                    clean = any(finding in said for finding in FINDINGS)
                    if clean:
                        part.result(name, result="ok", detail=True)
                    else:
                        part.fail(name, said)


if __name__ == "__main__":
    main(run)
