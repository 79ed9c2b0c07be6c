"""Runs compute-sanitizer on the kernels' tests while there is time, to find errors that do not change results. Tests of
whole models are not run, because they use no other kernels."""

from ..diagnosis import sanitize
from ..environments import environment_of
from ..part import OutOfTime, Part, Skipped, main
from ..tests_on_device import list_cases

TESTS = ["test_cuda_smoke", "test_cuda_elementwise", "test_cuda_rope", "test_cuda_draw", "test_cuda_attention", "test_cuda_gemm",
         "test_cuda_gemm_gated"]
CLEAN = ("ERROR SUMMARY: 0 errors", "RACECHECK SUMMARY: 0 hazards")


def run(part: Part) -> None:
    if not part.cuda:
        raise Skipped("compute-sanitizer needs a GPU; the emulator detects races and accesses out of bounds in part parity")
    todo = [(tool, test, case) for test in TESTS for case in list_cases(part, test) for tool in ("memcheck", "racecheck")]
    clean = 0
    for number, (tool, test, case) in enumerate(todo):
        name = f"{tool}, {test}: {case}"
        try:
            report = sanitize(part, tool, test, case, environment_of("parity", test))
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
        if any(summary in report for summary in CLEAN):
            clean += 1
        else:
            part.fail(name, report)
    part.result("clean", cases=clean)
    if not clean and not part.failed:
        raise Skipped("no case finished")


if __name__ == "__main__":
    main(run)
