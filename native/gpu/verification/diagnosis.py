"""The immediate diagnosis of a failed test: the test is run again, and then run under compute-sanitizer."""

import re
import time
from typing import Callable, Dict, Optional, Set

from .machine import find_tool
from .part import Failed, OutOfTime, Part, Skipped, excerpt
from .tests_on_device import run_case

SANITIZER_SECONDS = 25
MIN_SECONDS = 10  # with less time left, no diagnosis is started
MAX_CHARACTERS = 2500  # of a sanitizer's report that a result keeps


class Diagnosis:
    """Diagnoses the failed cases of a part: one case per test, and all of them within `seconds`, so that a kernel which
    fails everywhere leaves time for the next parts. Part red diagnoses the other cases."""

    def __init__(self, part: Part, seconds: float) -> None:
        self.part = part
        self.left = seconds
        self.tests: Set[str] = set()

    def of(self, test: str, environment: Optional[Dict[str, str]] = None) -> Callable[[str, str], None]:
        """A function that run_test() calls with a failed case and the reason."""
        return lambda case, why: self.diagnose(test, case, why, environment)

    def diagnose(self, test: str, case: str, why: str, environment: Optional[Dict[str, str]] = None) -> None:
        if not self.part.cuda:
            return  # the emulator itself detects races and accesses out of bounds
        name = f"{test}: {case}"
        if test in self.tests or self.left < MIN_SECONDS:
            self.part.result(name, diagnosis="left to phase 2, part red")
            return
        self.tests.add(test)
        began = time.monotonic()
        try:
            if "took longer" not in why:  # a case that hung is not repeated
                repeat(self.part, test, case, environment)
            for tool in ("memcheck", "racecheck"):
                seconds = min(SANITIZER_SECONDS, self.left - (time.monotonic() - began))
                if seconds > 1:
                    self.part.result(name, tool=tool, said=report_of(self.part, tool, test, case, environment, seconds))
        finally:
            self.left -= time.monotonic() - began


def repeat(part: Part, test: str, case: str, environment: Optional[Dict[str, str]]) -> None:
    """Runs the case again with the same inputs. Another error means a race or a read of uninitialised memory. The new
    mismatches are added to the results."""
    try:
        run_case(part, test, case, 20, environment)
        part.result(f"{test}: {case}", again="ok: it fails only sometimes")
    except Failed as failure:
        part.result(f"{test}: {case}", again=str(failure))


def report_of(part: Part, tool: str, test: str, case: str, environment: Optional[Dict[str, str]], seconds: float) -> str:
    try:
        return sanitize(part, tool, test, case, environment, seconds)
    except OutOfTime:
        raise
    except Skipped as skipped:
        return str(skipped)


def sanitize(part: Part, tool: str, test: str, case: str, environment: Optional[Dict[str, str]],
             seconds: float = SANITIZER_SECONDS) -> str:
    """The tool's report of the case, with its summary. Raises Skipped if there is no summary: the tool is not
    installed, does not support this device, or took too long."""
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
    # Only the tool's own lines: doctest prints lines that consist of "=".
    lines = "\n".join(re.findall(r"^========= +[^= ].*$", part.output, re.MULTILINE))
    if "SUMMARY" not in lines:
        raise Skipped(f"{tool} did not finish: {excerpt(lines or why)}" if "took longer" not in why
                      else f"{tool} took longer than {seconds:.0f} s")
    return lines[:MAX_CHARACTERS]
