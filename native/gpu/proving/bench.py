"""Times steps of a Llama-7B shape and sets them beside the floor: the bytes that a step must read over the bandwidth that
a copy reaches, or its multiplications over the rate that a large product reaches, whichever takes longer."""

import json
from pathlib import Path
from typing import Optional

from .llama import CUDA_ONLY, LLAMA_7B, TINY, Shape, write_for_timing
from .report import run_program

SHARED, OWN = 450, 50
ROWS = [1, 32, 128, 350]
PREFILL = 512
# Issue C's targets: share of the floor.
GOALS = {"decode 1": 0.80, "decode 32": 0.80, "decode 128": 0.65, "decode 350": 0.55, "prefill": 0.60}
FORMATS = {"bf16": 2.0, "fp8": 1.0, "int8": 1.125, "int4": 0.625}  # bytes per weight, scales included


class Ceilings:
    """What the device reaches at most, measured: bytes/s of a copy (read and written), FLOP/s of a bf16 product."""

    def __init__(self) -> None:
        import torch

        source = torch.empty(2**31, dtype=torch.int8, device="cuda")
        target = torch.empty_like(source)
        self.bandwidth = 2 * source.numel() / median_seconds(lambda: target.copy_(source))
        a = torch.randn(8192, 8192, dtype=torch.bfloat16, device="cuda")
        b = torch.randn(8192, 8192, dtype=torch.bfloat16, device="cuda")
        self.flops = 2 * 8192**3 / median_seconds(lambda: a @ b)
        del source, target, a, b
        torch.cuda.empty_cache()


def median_seconds(run, repeats: int = 20) -> float:
    import torch

    for _ in range(3):
        run()
    times = []
    for _ in range(repeats):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        run()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end) / 1e3)
    return sorted(times)[repeats // 2]


def floor_seconds(shape: Shape, case: str, weight_bytes: float, ceilings: Ceilings) -> float:
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
    return max(read / ceilings.bandwidth, 2 * products / ceilings.flops)


def bench(report, options) -> None:
    cuda = options.device == "cuda"
    shape, ceilings = (LLAMA_7B, Ceilings()) if cuda else (TINY, None)
    if ceilings:
        report.line(part="bench", case="ceilings", copy_bytes_per_s=ceilings.bandwidth, bf16_flop_per_s=ceilings.flops)
    weights = Path(options.build_dir) / ("llama-7b.bin" if cuda else "tiny.bin")
    job = write_for_timing(shape, weights)
    for dtype, weight_bytes in FORMATS.items():
        if not cuda and dtype in CUDA_ONLY:
            continue
        rows = ROWS if dtype == "bf16" else [1, 32]
        lines = job + [f"dtype {dtype}", f"device {options.device}", f"seconds {1.5 if cuda else 0.3}"]
        lines += [f"decode {n} {SHARED} {OWN}" for n in rows] + [f"prefill {PREFILL}"]
        program = [options.build_dir / "apar_bench_device"]
        for text in run_program(program, input="\n".join(lines).encode() + b"\n").stdout.decode().splitlines():
            add_floor(report, json.loads(text), dtype, shape, weight_bytes, ceilings)
    if cuda:
        for text in run_program([options.build_dir / "apar_bench_kernels"]).stdout.decode().splitlines():
            line = json.loads(text)
            report.line(**line, share_of_copy=round(line["bytes_per_s"] / ceilings.bandwidth, 3))


def add_floor(report, line: dict, dtype: str, shape: Shape, weight_bytes: float, ceilings: Optional[Ceilings]) -> None:
    line["dtype"] = dtype
    case = line["case"]
    if not ceilings:
        line.pop("host_share", None)  # the host is the device
    if ceilings and case != "open":
        floor = floor_seconds(shape, case, weight_bytes, ceilings)
        line["floor_us"] = round(floor * 1e6, 1)
        line["share_of_floor"] = round(floor * 1e6 / line["step_us"], 3)
        words = case.split()
        line["goal"] = GOALS.get(f"decode {words[1]}" if words[0] == "decode" else "prefill") if dtype == "bf16" else None
    report.line(**line)
