"""Writes blocks.txt: one random block of every quantised tensor type of GGUF, and its weights.

Each line: the type, the block's bytes, the bits of its weights in f32, both in hexadecimal.
Needs: pip install gguf==0.19.0 numpy
"""

import pathlib

import gguf
import numpy

TYPES = ["Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL"]
HALVES = {"Q8_0": [0], "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "IQ4_NL": [0],
          "Q2_K": [80, 82], "Q3_K": [108], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208]}

random = numpy.random.default_rng(7)
lines = []
for name in TYPES:
    kind = gguf.GGMLQuantizationType[name]
    _, block_bytes = gguf.GGML_QUANT_SIZES[kind]
    block = random.integers(0, 256, block_bytes, dtype=numpy.uint8)
    for at in HALVES[name]:  # scales that are no NaN and no infinity
        block[at:at + 2] = numpy.frombuffer(numpy.float16(random.normal()).tobytes(), numpy.uint8)
    weights = gguf.quants.dequantize(block[None, :], kind).astype(numpy.float32)
    lines.append(f"{name} {block.tobytes().hex()} {weights.astype('<f4').tobytes().hex()}\n")
pathlib.Path(__file__).with_name("blocks.txt").write_text("".join(lines))
