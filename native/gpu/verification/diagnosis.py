"""What is done at once about a test that is red: whether it is red in the same way again, then what compute-sanitizer says."""

import time
from typing import Callable, Dict, Optional

from .machine import find_tool
from .part import Failed, OutOfTime, Part, Skipped
from .tests_on_device import run_case

SANITIZER_SECONDS = 25
MOST_CHARACTERS = 2500  # of a sanitizer's report that a result keeps


def diagnosis(part: Part, test: str, environment: Optional[Dict[str, str]] = None, seconds: float = 75) -> Callable[[str], None]:
    """A function of the case that failed. All diagnoses made with it take at most `seconds` together: a kernel that is red everywhere
    must not cost what comes after it."""
    left = seconds

    def diagnose(case: str) -> None:
        nonlocal left
        if not part.cuda:
            return  # the emulator looks for races and bounds itself
        name = f"{test}: {case}"
        if left < SANITIZER_SECONDS:
            part.result(name, diagnosis="left to phase 2, part red")
            return
        began = time.monotonic()
        try:
            repeat(part, test, case, environment)
            for tool in ("memcheck", "racecheck"):
                part.result(name, tool=tool, said=sanitize(part, tool, test, case, environment))
        except OutOfTime:
            raise
        except Skipped as skipped:
            part.result(name, diagnosis=str(skipped))
        finally:
            left -= time.monotonic() - began

    return diagnose


def repeat(part: Part, test: str, case: str, environment: Optional[Dict[str, str]]) -> None:
    """The same inputs: an error that moves is a race or a read of memory that nothing wrote. Its mismatches stand beside the first."""
    try:
        run_case(part, test, case, 20, environment)
        part.result(f"{test}: {case}", again="ok: it fails now and then")
    except Failed as failure:
        part.result(f"{test}: {case}", again=str(failure))


def sanitize(part: Part, tool: str, test: str, case: str, environment: Optional[Dict[str, str]]) -> str:
    """What the tool reports of the case. Raises Skipped where there is no compute-sanitizer."""
    program = find_tool("compute-sanitizer")
    if program == "compute-sanitizer":
        raise Skipped("compute-sanitizer is not installed")
    under = [program, "--tool", tool, "--error-exitcode", "9", "--print-limit", "20"]
    try:
        return report(run_case(part, test, case, SANITIZER_SECONDS, environment, under))
    except OutOfTime:
        raise
    except Failed as failure:
        return report(part.output) or str(failure)


def report(output: str) -> str:
    """The tool's own lines."""
    lines = [line for line in output.splitlines() if line.startswith("=========")]
    return "\n".join(lines)[:MOST_CHARACTERS]
