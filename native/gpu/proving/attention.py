"""Whole steps with the tree's attention, with plain paged attention, and with what the cost rule chooses (docs/adr/0015): where
they cross is for these figures to say. Part bench times the kernels by themselves."""

import json
import os
from pathlib import Path

from .bench import OWN, SHARED
from .llama import LLAMA_7B, TINY, write_for_timing
from .report import run_program

# Rows, shared tokens, own tokens: from a prompt hardly longer than a chunk, where sharing saves least.
CASES = [(2, 64, 192), (8, 64, 192), (2, SHARED, OWN), (32, SHARED, OWN), (128, SHARED, OWN), (350, SHARED, OWN)]


def attention(report, options) -> None:
    cuda = options.device == "cuda"
    weights = Path(options.build_dir) / ("llama-7b.bin" if cuda else "tiny.bin")
    job = write_for_timing(LLAMA_7B if cuda else TINY, weights)
    job += ["dtype bf16", f"device {options.device}", f"seconds {0.5 if cuda else 0.1}"]
    job += [f"decode {rows} {shared} {own}" for rows, shared, own in (CASES if cuda else CASES[:1])]
    for choice in ["shared", "plain", "auto"] if cuda else ["auto"]:  # the CPU backend always shares
        environment = {**os.environ, "APAR_CUDA_ATTENTION": choice}
        program = [options.build_dir / "apar_bench_device"]
        done = run_program(program, input="\n".join(job).encode() + b"\n", env=environment)
        for text in done.stdout.decode().splitlines():
            line = json.loads(text)
            if not cuda:
                line.pop("host_share", None)
            if line["case"] != "open":
                report.line(**{**line, "part": "attention", "attention": choice if cuda else "cpu"})
