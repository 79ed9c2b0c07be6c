"""Writes tiny layers in the quantised formats of the field, with the weights that they stand for.

For each KIND of KINDS:
  KIND.safetensors           the layers as a checkpoint has them: codes, scales, zero points
  KIND.weights.safetensors   the same layers as plain matrices in F32
and for all: configs.json (quantization_config by kind) and layers.txt (one layer a line, in hex, for
native/test/test_quantised_layer.cpp: KIND DTYPE ROWS COLS BLOCK_ROWS BLOCK_COLS ZERO_OFFSET CODES SCALES ZEROS GROUPS
WEIGHTS; scales and weights in f32, `-` for what a kind has not).

Packed by the formats' definitions; check.py compares the result with the libraries that write and read them.
    python3 -m pip install -r requirements.txt && python3 make.py
"""

import json
import pathlib

import numpy
import torch
from safetensors.torch import save_file

FOLDER = pathlib.Path(__file__).parent
# Name: [outputs, inputs]. The test's model has other layers too, which stay plain.
LAYERS = {
    "model.layers.0.self_attn.q_proj": (32, 32),
    "model.layers.0.self_attn.o_proj": (32, 32),
    "model.layers.0.mlp.gate_proj": (48, 32),
    "model.layers.0.mlp.down_proj": (32, 48),
}
AWQ_ORDER = [0, 2, 4, 6, 1, 3, 5, 7]

random = numpy.random.default_rng(35)


def words(codes, bits):
    """Packs the last axis, the first number in the lowest bits."""
    per_word = 32 // bits
    parts = codes.astype(numpy.uint32).reshape(*codes.shape[:-1], -1, per_word)
    shifts = numpy.arange(per_word, dtype=numpy.uint32) * bits
    return (parts << shifts).sum(axis=-1, dtype=numpy.uint32)


def int32(array):
    return torch.from_numpy(numpy.ascontiguousarray(array).view(numpy.int32).copy())


def fp8(rows, cols, scale_name, scale_shape, scale_dtype, block):
    codes = random.integers(0, 256, (rows, cols), dtype=numpy.uint8)
    codes[(codes & 0x7F) == 0x7F] = 0  # NaN
    scales = torch.from_numpy(random.uniform(0.0002, 0.001, scale_shape)).to(scale_dtype)
    weight = torch.from_numpy(codes).view(torch.float8_e4m3fn)
    grid = scales.to(torch.float32).reshape(-1, 1 if block[1] >= cols else -(-cols // block[1]))
    spread = grid.repeat_interleave(block[0], 0)[:rows].repeat_interleave(block[1], 1)[:, :cols]
    return {
        "tensors": {"weight": weight, scale_name: scales},
        "weights": weight.to(torch.float32) * spread,
        "line": ["F8_E4M3", rows, cols, *block, 0, codes.tobytes(), grid.numpy().tobytes(), b"", b""],
    }


def packed(rows, cols, dtype, bits, group, zero_offset=0, shuffled=False):
    groups = cols // group
    codes = random.integers(0, 2**bits, (rows, cols))
    zeros = random.integers(0, 2**bits, (rows, groups))
    scales = torch.from_numpy(random.uniform(-0.02, 0.02, (rows, groups)) * 16 / 2**bits).to(torch.float16)
    group_of = numpy.arange(cols) // group
    if shuffled:
        random.shuffle(group_of)
    scale_of = scales.to(torch.float32).numpy()[:, group_of]
    weights = scale_of * (codes - zeros[:, group_of]).astype(numpy.float32)
    if dtype == "AWQ_4":
        order = numpy.arange(rows).reshape(-1, 8)[:, AWQ_ORDER].reshape(-1)
        qweight, qzeros = words(codes.T[:, order], 4), words(zeros.T[:, order], 4)
    else:
        qweight = words(codes, bits).T
        # Version 1 stores one less: it is subtracted from whole words, so that a 0 borrows.
        ones = numpy.uint32((2**32 - 1) // (2**bits - 1))
        qzeros = words(zeros.T, bits) - numpy.uint32(zero_offset) * ones
    tensors = {"qweight": int32(qweight), "qzeros": int32(qzeros), "scales": scales.T.contiguous()}
    group_bytes = b""
    if dtype != "AWQ_4" and (shuffled or group < cols):
        tensors["g_idx"] = torch.from_numpy(group_of.astype(numpy.int32))
        group_bytes = tensors["g_idx"].numpy().tobytes()
    scale_bytes = scales.T.to(torch.float32).contiguous().numpy().tobytes()
    code_bytes, zero_bytes = (tensors[name].numpy().tobytes() for name in ("qweight", "qzeros"))
    return {
        "tensors": tensors,
        "weights": torch.from_numpy(weights),
        "line": [dtype, rows, cols, 1, group, zero_offset, code_bytes, scale_bytes, zero_bytes, group_bytes],
    }


def fp8_tensor(rows, cols):
    layer = fp8(rows, cols, "weight_scale", (), torch.float32, (rows, cols))
    layer["tensors"]["input_scale"] = torch.tensor(0.5)
    return layer


def gptq(rows, cols):
    layer = packed(rows, cols, "GPTQ_4", 4, 16, zero_offset=1)
    layer["tensors"]["bias"] = torch.zeros(rows, dtype=torch.float16)
    return layer


CHANNEL_WEIGHTS = {"num_bits": 8, "type": "float", "symmetric": True, "strategy": "channel", "dynamic": False}
KINDS = {
    "fp8_tensor": (fp8_tensor, {"quant_method": "fp8", "activation_scheme": "static", "weight_block_size": None}),
    "fp8_block": (
        lambda rows, cols: fp8(
            rows, cols, "weight_scale_inv", (-(-rows // 12), -(-cols // 20)), torch.bfloat16, (12, 20)
        ),
        {"quant_method": "fp8", "activation_scheme": "dynamic", "fmt": "e4m3", "weight_block_size": [12, 20]},
    ),
    "fp8_channel": (
        lambda rows, cols: fp8(rows, cols, "weight_scale", (rows, 1), torch.bfloat16, (1, cols)),
        {
            "quant_method": "compressed-tensors",
            "format": "float-quantized",
            "quantization_status": "compressed",
            "config_groups": {"group_0": {"targets": ["Linear"], "weights": CHANNEL_WEIGHTS}},
            "ignore": ["lm_head"],
        },
    ),
    "awq": (
        lambda rows, cols: packed(rows, cols, "AWQ_4", 4, 16),
        {"quant_method": "awq", "bits": 4, "group_size": 16, "zero_point": True, "version": "gemm"},
    ),
    "gptq": (gptq, {"quant_method": "gptq", "bits": 4, "group_size": 16, "sym": False, "desc_act": False}),
    "gptq_v2": (
        lambda rows, cols: packed(rows, cols, "GPTQ_4", 4, 8, shuffled=True),
        {"quant_method": "gptq", "bits": 4, "group_size": 8, "desc_act": True, "checkpoint_format": "gptq_v2"},
    ),
    "gptq_8": (
        lambda rows, cols: packed(rows, cols, "GPTQ_8", 8, cols, zero_offset=1),
        {"quant_method": "gptq", "bits": 8, "group_size": -1, "sym": True, "checkpoint_format": "gptq"},
    ),
}


def main():
    lines = []
    for kind, (make, _) in KINDS.items():
        layers = {name: make(*shape) for name, shape in LAYERS.items()}
        stored = {f"{name}.{part}": t for name, layer in layers.items() for part, t in layer["tensors"].items()}
        save_file(stored, FOLDER / f"{kind}.safetensors")
        plain = {f"{name}.weight": layer["weights"].contiguous() for name, layer in layers.items()}
        save_file(plain, FOLDER / f"{kind}.weights.safetensors")
        first = next(iter(layers.values()))
        fields = [*first["line"], first["weights"].numpy().tobytes()]
        lines.append(" ".join([kind, *((f.hex() or "-") if isinstance(f, bytes) else str(f) for f in fields)]))
    (FOLDER / "layers.txt").write_text("\n".join(lines) + "\n")
    configs = {kind: config for kind, (_, config) in KINDS.items()}
    (FOLDER / "configs.json").write_text(json.dumps(configs, indent=2) + "\n")


if __name__ == "__main__":
    main()
