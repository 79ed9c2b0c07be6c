"""The least time of a step: the bytes that it must read divided by the bandwidth that a copy reaches, or its
multiplications divided by the rate that a large product reaches, whichever is longer. A goal is a share of that floor,
so that it holds on any device."""

from dataclasses import dataclass
from typing import Optional

from .machine import gpu_of
from .models.llama import CUDA_ONLY, Shape
from .part import Part

FP8_KV_BYTES = 1 + 2 / 128  # 16 bits of scale per head of 128

# Measured once on such a machine with PyTorch (copy of 8.6 GB, read and written; product of 8192 x 8192 x 8192). Used
# by runs that could not measure the device, and marked `assumed` then.
ASSUMED = {"H100": {"copy_bytes_per_s": 3.0e12, "bf16_flop_per_s": 790e12},
           "H200": {"copy_bytes_per_s": 4.3e12, "bf16_flop_per_s": 790e12}}


@dataclass(frozen=True)
class Format:
    dtype: str  # of the weights
    weight_bytes: float  # per weight, including scales
    kv_cache_dtype: str = "auto"
    kv_bytes: float = 2.0

    @property
    def name(self) -> str:
        return self.dtype if self.kv_cache_dtype == "auto" else f"{self.dtype}, {self.kv_cache_dtype} kv"

    def runs_on(self, device: str) -> bool:
        return device == "cuda" or (self.dtype not in CUDA_ONLY and self.kv_cache_dtype == "auto")


BF16 = Format("bf16", 2.0)
BF16_FP8_KV = Format("bf16", 2.0, "fp8", FP8_KV_BYTES)
FP8 = Format("fp8", 1.0)
INT8 = Format("int8", 1.125)
INT4 = Format("int4", 0.625)
INT4_G128 = Format("int4-g128", 0.5 + 2.5 / 128)  # a scale of 16 bits and a zero point of 4 per 128 inputs


def assumed(gpu: str) -> Optional[dict]:
    """The assumed rates of a device, or None for one that was never measured: some H100s have other memory ("H100
    PCIe", "H100 NVL", "GH200")."""
    words = gpu.split()
    if {"PCIe", "NVL"} & set(words):
        return None
    return next(({**known, "assumed": True} for name, known in ASSUMED.items() if name in words), None)


def ceilings(part: Part) -> Optional[dict]:
    """The rates that part floors measured, else the assumed ones; None on the CPU and on an unknown device."""
    if not part.cuda:
        return None
    return part.earlier("floors", "ceilings") or assumed(gpu_of(part).get("gpu", "unknown"))


def floor_seconds(shape: Shape, case: str, format: Format, ceilings: dict) -> float:
    """The floor of a case of native/bench/cuda/steps.cpp: `decode ROWS SHARED OWN` or `prefill TOKENS`."""
    words = case.split()
    weights = shape.linear_weights()
    if words[0] == "prefill":
        rows, kv_tokens = int(words[1]), int(words[1])
        products = (weights - shape.vocab * shape.hidden) * rows + shape.vocab * shape.hidden
        products += shape.layers * shape.heads * shape.head_dim * rows * rows  # scores and values, the causal half
    else:
        rows, shared, own = map(int, words[1:4])
        kv_tokens = shared + rows * own
        products = weights * rows + 2 * shape.layers * shape.heads * shape.head_dim * rows * (shared + own)
    read = weights * format.weight_bytes + kv_tokens * shape.kv_bytes_per_token(format.kv_bytes)
    return max(read / ceilings["copy_bytes_per_s"], 2 * products / ceilings["bf16_flop_per_s"])
