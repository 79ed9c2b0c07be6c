"""compute-sanitizer on the kernels' tests, as long as time is left: what green kernels do wrong without a wrong result. Whole models
add no kernel."""

from ..diagnosis import sanitize
from ..environments import environment_of
from ..part import OutOfTime, Part, Skipped, main
from ..tests_on_device import list_cases

TESTS = ["test_cuda_smoke", "test_cuda_elementwise", "test_cuda_rope", "test_cuda_draw", "test_cuda_attention", "test_cuda_gemm"]
CLEAN = ("ERROR SUMMARY: 0 errors", "RACECHECK SUMMARY: 0 hazards")


def run(part: Part) -> None:
    if not part.cuda:
        raise Skipped("compute-sanitizer watches a GPU; the emulator looks for races and bounds in part parity")
    todo = [(tool, test, case) for test in TESTS for case in list_cases(part, test) for tool in ("memcheck", "racecheck")]
    clean = 0
    for number, (tool, test, case) in enumerate(todo):
        name = f"{tool}, {test}: {case}"
        try:
            said = sanitize(part, tool, test, case, environment_of("parity", test))
        except OutOfTime:
            if not clean:
                raise
            part.result("left for another time", cases=len(todo) - number)
            break
        except Skipped as skipped:
            part.skip(name, str(skipped))
            if "not installed" in str(skipped) or "Device not supported" in str(skipped):
                raise
            continue
        if any(summary in said for summary in CLEAN):
            clean += 1
        else:
            part.fail(name, said)
    part.result("clean", cases=clean)
    if not clean and not part.failed:
        raise Skipped("not one case came to an end")


if __name__ == "__main__":
    main(run)
