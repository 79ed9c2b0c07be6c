"""Hopper's own matrix products (docs/adr/0013) against the host's, then whole models with them."""

import re

from ..diagnosis import Diagnosis
from ..environments import environment_of
from ..machine import is_hopper
from ..part import Part, Skipped, main
from ..tests_on_device import WGMMA_TEST, run_test

CASE_SECONDS = 20  # a barrier that nobody arrives at would hold a case for ever
DIAGNOSIS_SECONDS = 30
MODEL_TEST = "test_cuda_model"


def run(part: Part) -> None:
    if part.cuda and not is_hopper(part):
        raise Skipped("wgmma is Hopper's, compute capability 9.0")
    diagnosis = Diagnosis(part, DIAGNOSIS_SECONDS)
    outputs = run_test(part, WGMMA_TEST, CASE_SECONDS, diagnose=diagnosis.of(WGMMA_TEST))
    for output in outputs.values():
        said = re.search(r"mma\.sync's bits: (\w+)", output)
        if said:
            part.result("the same bits as mma.sync", result=said.group(1))
    if part.cuda:  # the emulator would only repeat part parity, at length
        environment = environment_of("wgmma", MODEL_TEST)
        run_test(part, MODEL_TEST, CASE_SECONDS, environment, diagnosis.of(MODEL_TEST, environment))


if __name__ == "__main__":
    main(run)
