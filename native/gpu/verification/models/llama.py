"""Random Llama checkpoints in the form that the engine's tools read (native/tools/model_job.h)."""

from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Tuple

import numpy as np


@dataclass
class Shape:
    vocab: int
    hidden: int
    inner: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    context: int = 4096
    eps: float = 1e-5
    theta: float = 10000.0
    tied: bool = False  # the embedding table is also the output layer

    def lines(self) -> List[str]:
        frequencies = [self.theta ** (-2 * pair / self.head_dim) for pair in range(self.head_dim // 2)]
        return [
            f"shape {self.vocab} {self.hidden} {self.inner} {self.layers} {self.heads} {self.kv_heads} "
            f"{self.head_dim} {self.context} {self.eps} {int(self.tied)}",
            f"rope 1 {' '.join(map(str, frequencies))}",
        ]

    def layer_tensors(self) -> Dict[str, Tuple[int, ...]]:
        q, kv = self.heads * self.head_dim, self.kv_heads * self.head_dim
        return {
            "input_layernorm": (self.hidden,),
            "self_attn.q_proj": (q, self.hidden),
            "self_attn.k_proj": (kv, self.hidden),
            "self_attn.v_proj": (kv, self.hidden),
            "self_attn.o_proj": (self.hidden, q),
            "post_attention_layernorm": (self.hidden,),
            "mlp.gate_proj": (self.inner, self.hidden),
            "mlp.up_proj": (self.inner, self.hidden),
            "mlp.down_proj": (self.hidden, self.inner),
        }

    def other_tensors(self) -> Dict[str, Tuple[int, ...]]:
        table = (self.vocab, self.hidden)
        others = {"model.embed_tokens": table, "model.norm": (self.hidden,)}
        return others if self.tied else {**others, "lm_head": table}

    def linear_weights(self) -> int:
        """The number of weights that a step reads: all except the embedding table and the norms."""
        layer = sum(int(np.prod(shape)) for shape in self.layer_tensors().values() if len(shape) == 2)
        return self.layers * layer + self.vocab * self.hidden

    def kv_bytes_per_token(self, element: float = 2) -> float:
        return 2 * self.layers * self.kv_heads * self.head_dim * element


CUDA_ONLY = {"f16", "fp8", "int4-g128"}  # weight formats that the CPU backend does not support
LLAMA_7B = Shape(32000, 4096, 11008, 32, 32, 32, 128)
TINY = Shape(1000, 256, 688, 4, 4, 2, 64)


def random_bf16(count: int) -> np.ndarray:
    """Bits of bf16 numbers with random sign and mantissa and a magnitude between 1/64 and 1/32; the same on every
    call."""
    return np.random.default_rng(1).integers(0, 2**16, count, dtype=np.uint16) & 0x807F | 0x3C80


def write_for_timing(shape: Shape, path: Path) -> List[str]:
    """Writes random bf16 weights and returns the lines of a job. All layers share the same bytes of the file, because
    only the device's copies of them are timed."""
    lines = [*shape.lines(), f"file {path}"]
    offset = 0
    places: Dict[str, int] = {}
    for name, size in {**shape.layer_tensors(), **shape.other_tensors()}.items():
        places[name] = offset
        offset += 2 * int(np.prod(size))
    if not path.exists() or path.stat().st_size != offset:
        piece = random_bf16(1 << 22)
        with open(path, "wb") as file:
            for at in range(0, offset // 2, piece.size):
                piece[: offset // 2 - at].tofile(file)

    def tensor(name: str, place: str, size: Tuple[int, ...]) -> str:
        return f"tensor {name}.weight 0 {places[place]} BF16 {len(size)} {' '.join(map(str, size))}"

    for layer in range(shape.layers):
        lines += [tensor(f"model.layers.{layer}.{name}", name, size) for name, size in shape.layer_tensors().items()]
    return lines + [tensor(name, name, size) for name, size in shape.other_tensors().items()]


def from_safetensors(shape: Shape, path: Path) -> List[str]:
    """The lines of a job for a safetensors file."""
    import json
    import struct

    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
    lines = [*shape.lines(), f"file {path}"]
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        size, begin = entry["shape"], 8 + length + entry["data_offsets"][0]
        lines.append(f"tensor {name} 0 {begin} {entry['dtype']} {len(size)} {' '.join(map(str, size))}")
    return lines
