"""The data type of the arithmetic."""

from typing import Optional

import torch


def dtype_name(named: Optional[str], device: torch.device) -> str:
    """`named`; by default bfloat16, but float32 on a CPU that multiplies bf16 without instructions for it: it takes
    up to 50 times as long as f32 there."""
    if named is not None:
        return named
    fast = device.type != "cpu" or torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return "bfloat16" if fast else "float32"


def dtype_of(name: str) -> torch.dtype:
    """Of a name in options.DTYPES."""
    return torch.float32 if name == "float32" else torch.bfloat16
