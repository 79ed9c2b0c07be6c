"""Runs the tests of the CUDA backend, case by case. Each case runs in its own process, because after a fault on a GPU
nothing works any more in that process's context. On the CPU the same cases run on the emulator."""

import json
import os
import re
from typing import Callable, Dict, List, Optional, Sequence

from .part import Failed, Part, ending, excerpt, program_name

PARITY_TESTS = ["test_cuda_elementwise", "test_cuda_rope", "test_cuda_gemm", "test_cuda_gemm_gated", "test_cuda_attention",
                "test_cuda_draw", "test_cuda_model", "test_cuda_parallel"]
SMOKE_TEST = "test_cuda_smoke"
WGMMA_TEST = "test_cuda_gemm_wgmma"
CUBLASLT_TEST = "test_cuda_gemm_cublaslt"
OVERLAP_TEST = "test_cuda_overlap"
RANKS_TEST = "test_cuda_sharded"
DEVICE_TESTS = [SMOKE_TEST, *PARITY_TESTS, WGMMA_TEST, CUBLASLT_TEST, OVERLAP_TEST, RANKS_TEST]
# The environment may say how many cases of each test run: `npm test` runs all of them elsewhere.
MOST_CASES = int(os.environ.get("APAR_VERIFY_CASES", "0"))
EMULATED_CASE_SECONDS = 120  # enough for a debug build of the emulator on a busy machine


def test_command(part: Part, test: str) -> List[str]:
    """The command that runs a test file: one program has all of them for a device, and each has its own for the
    emulator."""
    program = part.programs / ("device_tests" if part.cuda else f"test/cuda/{test}")
    if not program.exists():
        raise Failed(f"{program.name} was not built: doctest's header (Debian: doctest-dev) is missing, or part build failed")
    return [str(program), *([f"--source-file=*{test}.cpp"] if part.cuda else [])]


def list_cases(part: Part, test: str) -> List[str]:
    listed = part.program([*test_command(part, test), "--list-test-cases"], limit=20).decode(errors="replace")
    cases = [line for line in listed.splitlines() if line.strip() and not re.match(r"\[doctest\]|=+$", line)]
    if not cases:
        raise Failed(f"{test} has no test case")
    return cases


def run_test(part: Part, test: str, seconds: float, environment: Optional[Dict[str, str]] = None,
             diagnose: Optional[Callable[[str, str], None]] = None) -> Dict[str, str]:
    """Runs every case of a test and returns the outputs of those that passed. Calls `diagnose` immediately with each
    failed case and the reason. Adds one line per test that passed completely, and one per failed case."""
    outputs: Dict[str, str] = {}
    checks = 0
    listed = list_cases(part, test)
    cases = listed[: MOST_CASES or len(listed)]
    for case in cases:
        name = f"{test}: {case}"
        try:
            outputs[case] = run_case(part, test, case, seconds, environment)
        except Failed as failure:
            part.fail(name, str(failure))
            if diagnose:
                diagnose(case, str(failure))
            continue
        checks += count(outputs[case], "assertions")
        if left_out(outputs[case]):
            part.skip(name, left_out(outputs[case]))
    if len(outputs) == len(cases):
        part.result(test, result="ok", on="device" if part.cuda else "emulator", test_cases=len(cases), assertions=checks,
                    of=len(listed) if len(cases) < len(listed) else None)
    return outputs


def run_case(part: Part, test: str, case: str, seconds: float, environment: Optional[Dict[str, str]] = None,
             under: Sequence[str] = ()) -> str:
    """Returns the output of the case. Raises Failed with the first assertion that failed. Mismatches
    (native/test/cuda/mismatches.h) become results."""
    # In doctest's filters a comma is a separator, and a question mark matches any character.
    command = [*under, *test_command(part, test), f"--test-case={case.replace(',', '?')}"]
    limit = seconds if part.cuda else max(seconds, EMULATED_CASE_SECONDS)
    status, printed = part.run(command, limit, env={**os.environ, **(environment or {})})
    output = printed.decode(errors="replace")
    keep_mismatches(part, f"{test}: {case}", output)
    if status != 0:
        raise Failed(f"{program_name(command)} {ending(status)}: {first_failure(part.output)}")
    if count(output, "test cases") == 0:
        raise Failed(f"no test case ran: {excerpt(output)}")
    return output


def left_out(output: str) -> str:
    """The reason if the case skipped itself, else ""."""
    found = re.search(r"left out: (.*)", output)
    return found.group(1).strip() if found else ""


def count(output: str, what: str) -> int:
    found = re.search(rf"{what}:\s*(\d+)", output)
    return int(found.group(1)) if found else 0


def first_failure(output: str) -> str:
    """The output from the first assertion that doctest reports, or from the first line of a crash."""
    found = re.search(r"^.*(ERROR:|FATAL ERROR:|terminate called|error while loading)", output, re.MULTILINE)
    return excerpt(output[found.start():] if found else output)


def keep_mismatches(part: Part, name: str, output: str) -> None:
    for line in output.splitlines():
        if line.startswith('{"mismatch"'):
            try:
                part.result(name, **json.loads(line))
            except ValueError:
                pass  # truncated by a crash; the log has the line
