"""Times steps of a Llama-7B shape and sets them beside the floor: the bytes that a step must read over the bandwidth that
a copy reaches, or its multiplications over the rate that a large product reaches, whichever takes longer."""

import sys
from pathlib import Path
from typing import Optional

from .build import NATIVE
from .llama import CUDA_ONLY, LLAMA_7B, TINY, Shape, write_for_timing
from .targets import SHARES

SHARED, OWN = 450, 50
ROWS = [1, 32, 128, 350]
SAMPLED_ROWS = [1, 32, 350]  # temperature 0.8, top_p 0.95
PREFILL = 512
FORMATS = {"bf16": 2.0, "fp8": 1.0, "int8": 1.125, "int4": 0.625}  # bytes per weight, scales included


def floor_seconds(shape: Shape, case: str, weight_bytes: float, ceilings: dict) -> float:
    words = case.split()
    weights = shape.linear_weights()
    if words[0] == "prefill":
        rows, kv_tokens = int(words[1]), int(words[1])
        products = (weights - shape.vocab * shape.hidden) * rows + shape.vocab * shape.hidden
        products += shape.layers * shape.heads * shape.head_dim * rows * rows  # scores and values, the causal half
    else:
        rows, shared, own = map(int, words[1:])
        kv_tokens = shared + rows * own
        products = weights * rows + 2 * shape.layers * shape.heads * shape.head_dim * rows * (shared + own)
    read = weights * weight_bytes + kv_tokens * shape.kv_bytes_per_token()
    return max(read / ceilings["copy_bytes_per_s"], 2 * products / ceilings["bf16_flop_per_s"])


def bench(report, options) -> None:
    cuda = options.device == "cuda"
    shape = LLAMA_7B if cuda else TINY
    ceilings = measure_ceilings(report) if cuda else None
    weights = Path(options.build_dir) / ("llama-7b.bin" if cuda else "tiny.bin")
    job = write_for_timing(shape, weights)
    for dtype, weight_bytes in FORMATS.items():
        if not cuda and dtype in CUDA_ONLY:
            continue
        with report.attempt("bench", f"{dtype} steps"):
            bench_steps(report, options, job, dtype, shape, weight_bytes, ceilings)
        if cuda and dtype == "bf16":  # the other formats come last: theirs is one target of many
            with report.attempt("bench", "kernels"):
                bench_kernels(report, options, ceilings)


def measure_ceilings(report) -> Optional[dict]:
    found = {}
    with report.attempt("bench", "ceilings"):
        command = [sys.executable, "-m", "proving.ceilings"]
        report.results(command, lambda line: found.update(line), cwd=NATIVE / "gpu", limit=60)
        report.line(**found)
    return found or None


def bench_steps(report, options, job, dtype: str, shape: Shape, weight_bytes: float, ceilings: Optional[dict]) -> None:
    cuda = options.device == "cuda"
    rows, sampled = (ROWS, SAMPLED_ROWS) if dtype == "bf16" else ([1, 32], [])
    lines = job + [f"dtype {dtype}", f"device {options.device}", f"seconds {1 if cuda else 0.3}"]
    lines += [f"decode {n} {SHARED} {OWN}" for n in rows] + [f"prefill {PREFILL}"]
    lines += [f"sample {n} {SHARED} {OWN} 0.8 0.95" for n in sampled]
    greedy = {}

    def add(line: dict) -> None:
        case = line["case"]
        line["dtype"] = dtype
        if not cuda:
            line.pop("host_share", None)  # the host is the device
        words = case.split()
        if words[0] == "decode":
            greedy[words[1]] = line["step_us"]
        if words[0] == "sample" and "step_us" in line:
            line["greedy_step_us"] = greedy.get(words[1])
        if ceilings and words[0] in ("decode", "prefill"):
            floor = floor_seconds(shape, case, weight_bytes, ceilings)
            line["floor_us"] = round(floor * 1e6, 1)
            line["share_of_floor"] = round(floor * 1e6 / line["step_us"], 3)
            line["goal"] = SHARES.get(f"decode {words[1]}" if words[0] == "decode" else "prefill") if dtype == "bf16" else None
        report.line(**line)

    report.results([options.build_dir / "apar_bench_device"], add, input="\n".join(lines).encode() + b"\n", limit=120)


def bench_kernels(report, options, ceilings: Optional[dict]) -> None:
    def add(line: dict) -> None:
        if ceilings:
            line["share_of_copy"] = round(line["bytes_per_s"] / ceilings["copy_bytes_per_s"], 3)
        (report.line if line["case"].startswith("attention") else report.detail)(**line)

    report.results([options.build_dir / "apar_bench_kernels"], add)
