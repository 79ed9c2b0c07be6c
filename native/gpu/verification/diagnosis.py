"""What is done at once about a test that is red: whether it is red in the same way again, then what compute-sanitizer says."""

import re
import time
from typing import Callable, Dict, Optional, Set

from .machine import find_tool
from .part import Failed, OutOfTime, Part, Skipped, excerpt
from .tests_on_device import run_case

SANITIZER_SECONDS = 25
LEAST_SECONDS = 10  # with less left, no diagnosis is begun
MOST_CHARACTERS = 2500  # of a sanitizer's report that a result keeps


class Diagnosis:
    """Of a part's red cases: one a test, all together within `seconds`. A kernel that is red everywhere must not cost what comes
    after it; part red looks at the others."""

    def __init__(self, part: Part, seconds: float) -> None:
        self.part = part
        self.left = seconds
        self.tests: Set[str] = set()

    def of(self, test: str, environment: Optional[Dict[str, str]] = None) -> Callable[[str, str], None]:
        """What run_test() calls with a case and why it failed."""
        return lambda case, why: self.diagnose(test, case, why, environment)

    def diagnose(self, test: str, case: str, why: str, environment: Optional[Dict[str, str]] = None) -> None:
        if not self.part.cuda:
            return  # the emulator looks for races and bounds itself
        name = f"{test}: {case}"
        if test in self.tests or self.left < LEAST_SECONDS:
            self.part.result(name, diagnosis="left to phase 2, part red")
            return
        self.tests.add(test)
        began = time.monotonic()
        try:
            if "took longer" not in why:  # a hang would only take as long again
                repeat(self.part, test, case, environment)
            for tool in ("memcheck", "racecheck"):
                seconds = min(SANITIZER_SECONDS, self.left - (time.monotonic() - began))
                if seconds > 1:
                    self.part.result(name, tool=tool, said=said_by(self.part, tool, test, case, environment, seconds))
        finally:
            self.left -= time.monotonic() - began


def repeat(part: Part, test: str, case: str, environment: Optional[Dict[str, str]]) -> None:
    """The same inputs: an error that moves is a race or a read of memory that nothing wrote. Its mismatches stand beside the first."""
    try:
        run_case(part, test, case, 20, environment)
        part.result(f"{test}: {case}", again="ok: it fails now and then")
    except Failed as failure:
        part.result(f"{test}: {case}", again=str(failure))


def said_by(part: Part, tool: str, test: str, case: str, environment: Optional[Dict[str, str]], seconds: float) -> str:
    try:
        return sanitize(part, tool, test, case, environment, seconds)
    except OutOfTime:
        raise
    except Skipped as skipped:
        return str(skipped)


def sanitize(part: Part, tool: str, test: str, case: str, environment: Optional[Dict[str, str]],
             seconds: float = SANITIZER_SECONDS) -> str:
    """What the tool reports of the case, its summary included. Raises Skipped where it came to none: it is not installed, does not
    take this device, or took too long."""
    program = find_tool("compute-sanitizer")
    if program == "compute-sanitizer":
        raise Skipped("compute-sanitizer is not installed")
    under = [program, "--tool", tool, "--error-exitcode", "9", "--print-limit", "20"]
    why = ""
    try:
        run_case(part, test, case, seconds, environment, under)
    except OutOfTime:
        raise
    except Failed as failure:
        why = str(failure)
    # The tool's own lines; doctest draws lines of "=" alone.
    lines = "\n".join(re.findall(r"^========= +[^= ].*$", part.output, re.MULTILINE))
    if "SUMMARY" not in lines:
        raise Skipped(f"{tool} came to no end: {excerpt(lines or why)}" if "took longer" not in why
                      else f"{tool} took longer than {seconds:.0f} s")
    return lines[:MOST_CHARACTERS]
