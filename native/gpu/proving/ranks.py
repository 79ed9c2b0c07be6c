"""A model shared by several devices (docs/adr/0011), as far as one GPU can show it: one rank over NCCL against the device
alone. On the CPU: several ranks of the CPU backend, and of emulated devices with NCCL played within the process."""

import os
from pathlib import Path

import numpy as np

from .bench import OWN, SHARED
from .build import CPU_RANKS_TESTS, RANKS_TEST, doctest
from .libraries import find_library
from .llama import LLAMA_7B, Shape, write_for_timing
from .parity import run_test
from .report import Failed, Skipped

SHAPE = Shape(vocab=1000, hidden=512, inner=1376, layers=4, heads=8, kv_heads=4, head_dim=64, context=512)
TOKENS = 100


def ranks(report, options) -> None:
    if options.device == "cpu":
        for name in CPU_RANKS_TESTS if doctest(options) else []:
            report.program([options.build_dir / "test" / name])
            report.line(part="ranks", case=name, result="ok", on="cpu")
        run_test(report, options, "ranks", RANKS_TEST)
        raise Skipped("NCCL connects GPUs; what runs without one has passed")
    library = find_library("libnccl", "APAR_NCCL_LIBRARY")
    if not library:
        raise Skipped("NCCL was not found: name its libnccl.so.2 in APAR_NCCL_LIBRARY")
    environment = {**os.environ, "APAR_NCCL_LIBRARY": library}
    run_test(report, options, "ranks", RANKS_TEST, env=environment, limit=120)
    same_logits(report, options, environment)
    time_rank(report, options, environment)


def same_logits(report, options, environment) -> None:
    """One rank has the bits of the device alone: what is gathered and added up is one part."""
    weights = Path(options.build_dir) / "ranks.bin"
    ids = " ".join(str(token * 37 % SHAPE.vocab) for token in range(TOKENS))
    job = write_for_timing(SHAPE, weights) + ["dtype bf16", "device cuda", f"path {TOKENS} {ids}"]
    logits = []
    for devices in [[], ["devices 0"]]:
        text = "\n".join(job + devices) + "\n"
        program = [options.build_dir / "apar_logits"]
        raw = report.program(program, input=text.encode(), env=environment, limit=120, binary=True)
        logits.append(np.frombuffer(raw, dtype="<f4"))
    weights.unlink()
    if not np.array_equal(logits[0].view(np.uint32), logits[1].view(np.uint32)):
        raise Failed("one rank over NCCL has other logits than the device alone")
    report.line(part="ranks", case="logits of one rank over NCCL", result="the same bits", values=int(logits[0].size))


def time_rank(report, options, environment) -> None:
    """What handing calls to a rank's thread, the gather and the sum cost: beside part bench's step of the same size."""
    job = write_for_timing(LLAMA_7B, Path(options.build_dir) / "llama-7b.bin")
    job += ["dtype bf16", "device cuda", "devices 0", "seconds 0.7"]
    job += [f"decode {rows} {SHARED} {OWN}" for rows in (1, 32)]
    program = [options.build_dir / "apar_bench_device"]
    report.results(program, lambda line: report.line(**{**line, "part": "ranks", "devices": 1}),
                   input="\n".join(job).encode() + b"\n", env=environment)
