"""Reads and writes safetensors files (huggingface/safetensors: header length, JSON header, raw little-endian data)."""

import json
import struct
from pathlib import Path
from typing import Dict

import numpy as np
import torch

NAMES = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16", torch.int64: "I64"}
DTYPES = {name: dtype for dtype, name in NAMES.items()}


def save(tensors: Dict[str, torch.Tensor], path: Path) -> None:
    header: Dict[str, Dict] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, tensor in tensors.items():
        size = tensor.numel() * tensor.element_size()
        header[name] = {"dtype": NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for tensor in tensors.values():
            raw = tensor.detach().cpu().contiguous()
            # numpy knows no bfloat16: same bytes, seen as int16
            file.write((raw.view(torch.int16) if raw.dtype == torch.bfloat16 else raw).numpy().tobytes())


def load(path: Path) -> Dict[str, torch.Tensor]:
    data = Path(path).read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + length])
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        begin, end = (8 + length + at for at in entry["data_offsets"])
        dtype = DTYPES[entry["dtype"]]
        carrier = torch.int16 if dtype == torch.bfloat16 else dtype
        kind = {torch.int16: "<i2", torch.float32: "<f4", torch.float16: "<f2", torch.int64: "<i8"}[carrier]
        array = np.frombuffer(data[begin:end], dtype=kind).copy()
        tensors[name] = torch.from_numpy(array).view(dtype).reshape(entry["shape"])
    return tensors
