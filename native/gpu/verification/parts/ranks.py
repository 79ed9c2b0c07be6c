"""Tests a model that several devices share (docs/adr/0011), as far as this is possible with one GPU: one rank over NCCL
against the device without ranks. On the CPU: several ranks of the CPU backend, and of emulated devices with a simulated
NCCL."""

import os

import numpy as np

from ..bench_steps import time_steps
from ..cases import OWN, SHARED
from ..diagnosis import Diagnosis
from ..environments import environment_of
from ..floors import BF16
from ..models.llama import Shape, write_for_timing
from ..part import Failed, Part, Skipped, main
from ..tests_on_device import RANKS_TEST, run_test

CPU_RANKS_TESTS = ["test_rank_threads", "test_sharded_plan", "test_sharded"]
SHAPE = Shape(vocab=1000, hidden=512, inner=1376, layers=4, heads=8, kv_heads=4, head_dim=64, context=512)
TOKENS = 100
CASE_SECONDS = 20


def run(part: Part) -> None:
    if not part.cuda:
        for name in CPU_RANKS_TESTS:
            with part.attempt(name):
                part.program([part.programs / "test" / name])
                part.result(name, result="ok", on="cpu")
        run_test(part, RANKS_TEST, CASE_SECONDS)
        raise Skipped("NCCL needs GPUs; the tests that need none have passed")
    environment = environment_of("ranks", RANKS_TEST)
    if not environment:
        raise Skipped("NCCL was not found: set APAR_NCCL_LIBRARY to the path of libnccl.so.2")
    run_test(part, RANKS_TEST, CASE_SECONDS, environment, Diagnosis(part, 25).of(RANKS_TEST, environment))
    with part.attempt("logits of one rank over NCCL"):
        same_logits(part, environment)
    # The cost of passing calls to a rank's thread, of the gather and of the sum, compared with the same steps of part
    # steps.
    time_steps(part, BF16, [f"decode {rows} {SHARED} {OWN}" for rows in (1, 32)], environment, job=["devices 0"], ranks=1)


def same_logits(part: Part, environment: dict) -> None:
    """One rank must have the same bits as the device without ranks: it gathers and adds a single partial result."""
    weights = part.build_dir / "ranks.bin"
    ids = " ".join(str(token * 37 % SHAPE.vocab) for token in range(TOKENS))
    job = write_for_timing(SHAPE, weights) + ["dtype bf16", "device cuda", f"path {TOKENS} {ids}"]
    logits = []
    for devices in [[], ["devices 0"]]:
        text = "\n".join(job + devices) + "\n"
        raw = part.program([part.programs / "apar_logits"], input=text.encode(), env={**os.environ, **environment}, binary=True)
        logits.append(np.frombuffer(raw, dtype="<f4"))
    weights.unlink()
    if not np.array_equal(logits[0].view(np.uint32), logits[1].view(np.uint32)):
        raise Failed("one rank over NCCL has other logits than the device without ranks")
    part.result("logits of one rank over NCCL", result="the same bits", values=int(logits[0].size))


if __name__ == "__main__":
    main(run)
