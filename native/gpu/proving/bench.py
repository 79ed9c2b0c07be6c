"""Times steps of a Llama-7B shape and sets them beside the floor: the bytes that a step must read over the bandwidth that
a copy reaches, or its multiplications over the rate that a large product reaches, whichever takes longer."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from .build import NATIVE
from .llama import CUDA_ONLY, LLAMA_7B, TINY, Shape, write_for_timing
from .targets import SHARES

SHARED, OWN = 450, 50
ROWS = [1, 32, 128, 350]
SAMPLED_ROWS = [1, 32, 350]  # temperature 0.8, top_p 0.95
PREFILL = 512


@dataclass
class Format:
    dtype: str  # of the weights
    weight_bytes: float  # scales included
    kv_cache_dtype: str = "auto"
    kv_bytes: float = 2.0

    @property
    def name(self) -> str:
        return self.dtype if self.kv_cache_dtype == "auto" else f"{self.dtype}, {self.kv_cache_dtype} kv"

    def runs_on(self, device: str) -> bool:
        return device == "cuda" or (self.dtype not in CUDA_ONLY and self.kv_cache_dtype == "auto")


BF16 = Format("bf16", 2.0)
FP8_KV_BYTES = 1 + 2 / 128  # 16 bits of scale per head of 128
FORMATS = [BF16, Format("bf16", 2.0, "fp8", FP8_KV_BYTES), Format("fp8", 1.0), Format("int8", 1.125), Format("int4", 0.625)]


def floor_seconds(shape: Shape, case: str, format: Format, ceilings: dict) -> float:
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
    read = weights * format.weight_bytes + kv_tokens * shape.kv_bytes_per_token(format.kv_bytes)
    return max(read / ceilings["copy_bytes_per_s"], 2 * products / ceilings["bf16_flop_per_s"])


def bench(report, options) -> None:
    cuda = options.device == "cuda"
    shape = LLAMA_7B if cuda else TINY
    ceilings = measure_ceilings(report) if cuda else None
    weights = Path(options.build_dir) / ("llama-7b.bin" if cuda else "tiny.bin")
    job = write_for_timing(shape, weights)
    for format in FORMATS:
        if not format.runs_on(options.device):
            continue
        with report.attempt("bench", f"{format.name} steps"):
            bench_steps(report, options, job, format, shape, ceilings)
        if cuda and format is BF16:  # the other formats come last: theirs is one target of many
            with report.attempt("bench", "kernels"):
                bench_kernels(report, options, ceilings)


def measure_ceilings(report) -> Optional[dict]:
    found = {}
    with report.attempt("bench", "ceilings"):
        command = [sys.executable, "-m", "proving.ceilings"]
        report.results(command, lambda line: found.update(line), cwd=NATIVE / "gpu", limit=60)
        report.line(**found)
    return found or None


def bench_steps(report, options, job, format: Format, shape: Shape, ceilings: Optional[dict]) -> None:
    cuda = options.device == "cuda"
    rows = ROWS if format.dtype == "bf16" else [1, 32]
    sampled = SAMPLED_ROWS if format is BF16 else []
    lines = job + [f"dtype {format.dtype}", f"kv_cache_dtype {format.kv_cache_dtype}", f"device {options.device}"]
    lines += [f"seconds {1 if cuda else 0.3}"]
    lines += [f"decode {n} {SHARED} {OWN}" for n in rows] + [f"prefill {PREFILL}"]
    lines += [f"sample {n} {SHARED} {OWN} 0.8 0.95" for n in sampled]
    greedy = {}

    def add(line: dict) -> None:
        case = line["case"]
        line["dtype"] = format.name
        if not cuda:
            line.pop("host_share", None)  # the host is the device
        words = case.split()
        if words[0] == "decode":
            greedy[words[1]] = line["step_us"]
        if words[0] == "sample" and "step_us" in line:
            line["greedy_step_us"] = greedy.get(words[1])
        if ceilings and words[0] in ("decode", "prefill"):
            floor = floor_seconds(shape, case, format, ceilings)
            line["floor_us"] = round(floor * 1e6, 1)
            line["share_of_floor"] = round(floor * 1e6 / line["step_us"], 3)
            line["goal"] = SHARES.get(f"decode {words[1]}" if words[0] == "decode" else "prefill") if format is BF16 else None
        report.line(**line)

    report.results([options.build_dir / "apar_bench_device"], add, input="\n".join(lines).encode() + b"\n", limit=120)


def bench_kernels(report, options, ceilings: Optional[dict]) -> None:
    def add(line: dict) -> None:
        if ceilings:
            line["share_of_copy"] = round(line["bytes_per_s"] / ceilings["copy_bytes_per_s"], 3)
        (report.line if line["case"].startswith("attention") else report.detail)(**line)

    report.results([options.build_dir / "apar_bench_kernels"], add)
