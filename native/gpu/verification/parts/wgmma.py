"""Hopper's own matrix products (docs/adr/0013) against the host's, then whole models with them."""

import re

from ..diagnosis import diagnosis
from ..machine import is_hopper
from ..part import Part, Skipped, main
from ..tests_on_device import WGMMA_TEST, run_test

CASE_SECONDS = 20  # a barrier that nobody arrives at would hold a case for ever
WHOLE_MODELS = {"APAR_CUDA_GEMM": "wgmma"}


def run(part: Part) -> None:
    if part.cuda and not is_hopper(part):
        raise Skipped("wgmma is Hopper's, compute capability 9.0")
    outputs = run_test(part, WGMMA_TEST, CASE_SECONDS, diagnose=diagnosis(part, WGMMA_TEST, seconds=50))
    for output in outputs.values():
        said = re.search(r"mma\.sync's bits: (\w+)", output)
        if said:
            part.result("the same bits as mma.sync", result=said.group(1))
    if part.cuda:  # the emulator would only repeat part parity, at length
        run_test(part, "test_cuda_model", CASE_SECONDS, WHOLE_MODELS, diagnosis(part, "test_cuda_model", WHOLE_MODELS, seconds=50))


if __name__ == "__main__":
    main(run)
