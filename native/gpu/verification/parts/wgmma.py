"""Tests the matrix products of wgmma (docs/adr/0013) against the host's, and then whole models with them."""

import re

from ..diagnosis import Diagnosis
from ..environments import environment_of
from ..machine import is_hopper
from ..part import Part, Skipped, main
from ..tests_on_device import WGMMA_TEST, run_test

CASE_SECONDS = 20  # a missing arrival at a barrier would block a case without end
DIAGNOSIS_SECONDS = 30
MODEL_TEST = "test_cuda_model"


def run(part: Part) -> None:
    if part.cuda and not is_hopper(part):
        raise Skipped("wgmma needs Hopper, compute capability 9.0")
    diagnosis = Diagnosis(part, DIAGNOSIS_SECONDS)
    outputs = run_test(part, WGMMA_TEST, CASE_SECONDS, diagnose=diagnosis.of(WGMMA_TEST))
    for output in outputs.values():
        found = re.search(r"mma\.sync's bits: (\w+)", output)
        if found:
            part.result("the same bits as mma.sync", result=found.group(1))
    if part.cuda:  # on the emulator this would only repeat part parity slowly
        environment = environment_of("wgmma", MODEL_TEST)
        run_test(part, MODEL_TEST, CASE_SECONDS, environment, diagnosis.of(MODEL_TEST, environment))


if __name__ == "__main__":
    main(run)
