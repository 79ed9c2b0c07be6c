"""Whole steps with the tree's attention, with plain paged attention, and with what the cost rule chooses (docs/adr/0015): where
they cross is for these figures to say. Part bench times the kernels by themselves."""

import os
from pathlib import Path

from .bench import OWN, SHARED
from .llama import LLAMA_7B, TINY, write_for_timing

# Rows, shared tokens, own tokens: from a prompt hardly longer than a chunk, where sharing saves least.
CASES = [(2, 64, 192), (8, 64, 192), (2, SHARED, OWN), (32, SHARED, OWN), (128, SHARED, OWN), (350, SHARED, OWN)]


def attention(report, options) -> None:
    cuda = options.device == "cuda"
    weights = Path(options.build_dir) / ("llama-7b.bin" if cuda else "tiny.bin")
    job = write_for_timing(LLAMA_7B if cuda else TINY, weights)
    job += ["dtype bf16", f"device {options.device}", f"seconds {0.5 if cuda else 0.1}"]
    job += [f"decode {rows} {shared} {own}" for rows, shared, own in (CASES if cuda else CASES[:1])]
    steps = {}
    try:
        for choice in ["shared", "plain", "auto"] if cuda else ["cpu"]:  # the CPU backend always shares
            with report.attempt("attention", choice):
                time_choice(report, options, job, choice, steps)
    finally:
        for case, by_choice in steps.items():
            report.line(part="attention", case=case, step_us=by_choice)


def time_choice(report, options, job, choice: str, steps: dict) -> None:
    def add(line: dict) -> None:
        if line["case"] == "open":
            return
        if choice == "cpu":
            line.pop("host_share", None)
        steps.setdefault(line["case"], {})[choice] = line["step_us"]
        report.detail(**{**line, "part": "attention", "attention": choice})

    environment = {**os.environ, "APAR_CUDA_ATTENTION": "auto" if choice == "cpu" else choice}
    report.results([options.build_dir / "apar_bench_device"], add, input="\n".join(job).encode() + b"\n", env=environment)
