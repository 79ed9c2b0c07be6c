"""Runs the tests that failed in an earlier phase again, with a full diagnosis."""

from typing import Dict, List, Tuple

from ..diagnosis import Diagnosis
from ..environments import environment_of
from ..part import Failed, Part, Skipped, main
from ..tests_on_device import DEVICE_TESTS, left_out, run_case

CASE_SECONDS = 20
DIAGNOSIS_SECONDS = 70  # of one case


def run(part: Part) -> None:
    if part.earlier("parity", "end") is None:
        raise Skipped("there are no results of phase 1 on this machine")
    failed = failed_cases(part.earlier_lines)
    if not failed:
        raise Skipped("no test failed")
    for origin, test, case in failed:
        name, environment = f"{test}: {case}", environment_of(origin, test)
        try:
            reason = left_out(run_case(part, test, case, CASE_SECONDS, environment))
        except Failed as failure:
            part.fail(name, str(failure))
            Diagnosis(part, DIAGNOSIS_SECONDS).diagnose(test, case, str(failure), environment)
        else:
            part.skip(name, reason) if reason else part.result(name, result="ok", why="it passed this time")


def failed_cases(lines: List[dict]) -> List[Tuple[str, str, str]]:
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
