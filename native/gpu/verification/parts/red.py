"""What was red in an earlier phase, once more, with all that can be said about it."""

from typing import Dict, List, Tuple

from ..diagnosis import SANITIZER_SECONDS, diagnosis
from ..part import Part, Skipped, main
from ..tests_on_device import DEVICE_TESTS, run_case
from . import parity, wgmma

CASE_SECONDS = 20


def run(part: Part) -> None:
    red = red_cases(part.earlier_lines)
    if not red:
        raise Skipped("no test was red")
    for origin, test, case in red:
        environment = {"parity": parity.ENVIRONMENT, "wgmma": wgmma.WHOLE_MODELS}.get(origin, {})
        with part.attempt(f"{test}: {case}"):
            run_case(part, test, case, CASE_SECONDS, environment)
            part.result(f"{test}: {case}", result="ok", why="it is right this time")
        if f"{test}: {case}" in part.failed:
            diagnosis(part, test, environment, seconds=3 * SANITIZER_SECONDS)(case)


def red_cases(lines: List[dict]) -> List[Tuple[str, str, str]]:
    """(part, test, case) of every test case whose last result is a failure."""
    last: Dict[Tuple[str, str, str], bool] = {}
    for line in lines:
        test, _, case = line.get("case", "").partition(": ")
        if test in DEVICE_TESTS and case and "result" in line and line["part"] != "red":
            last[line["part"], test, case] = line["result"] == "failed"
        elif test in DEVICE_TESTS and not case and line.get("result") == "ok":
            for known in last:
                if known[:2] == (line["part"], test):
                    last[known] = False
    return [known for known, failed in last.items() if failed]


if __name__ == "__main__":
    main(run)
