"""Compares the weights that make.py wrote with those that the formats' own libraries read from the same codes.

    python3 -m pip install -r requirements.txt transformers==5.24.0 compressed-tensors==0.12.2
    python3 -m pip download --no-deps --no-build-isolation --no-binary :all: autoawq==0.2.9 gptqmodel==2.2.0
    for each in *.tar.gz; do tar xzf $each; done
    python3 check.py FOLDER-OF-THE-TWO-SOURCES
The two libraries cannot be imported without a GPU's packages: their functions are read from their sources.
"""

import ast
import json
import pathlib
import sys
import types

import torch
from compressed_tensors.quantization.lifecycle.forward import dequantize
from make import FOLDER, KINDS, LAYERS
from safetensors.torch import load_file
from transformers.integrations.finegrained_fp8 import _dequantize_fp8_weight


def function(source, name, **names):
    """The function `name`, wherever in the file it is defined."""
    tree = ast.parse(source.read_text())
    found = next(node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == name)
    found.decorator_list, found.returns = [], None
    for argument in found.args.args:
        argument.annotation = None
    scope = {"torch": torch, "t": torch, **names}
    exec(compile(ast.Module([found], []), source, "exec"), scope)
    return scope[name]


def gptqmodel_weights(sources, layer, config):
    folder = sources / "gptqmodel-2.2.0/gptqmodel"
    bits, rows = config["bits"], layer["qweight"].shape[1]
    cols = layer["qweight"].shape[0] * 32 // bits
    module = types.SimpleNamespace(
        bits=bits,
        pack_factor=32 // bits,
        maxq=2**bits - 1,
        dequant_dtype=torch.int16 if bits == 8 else torch.int8,
        qweight=layer["qweight"],
        qzeros=layer["qzeros"].clone(),
        # The library would round the products to the dtype of the scales.
        scales=layer["scales"].to(torch.float32),
        g_idx=layer.get("g_idx", torch.zeros(cols, dtype=torch.int32)),
        wf_unsqueeze_zero=torch.arange(0, 32, bits, dtype=torch.int32).reshape(1, 1, -1),
        wf_unsqueeze_neg_one=torch.arange(0, 32, bits, dtype=torch.int32).reshape(1, -1, 1),
        qzero_format=lambda format: None,
    )
    if config.get("checkpoint_format", "gptq") == "gptq":
        log = types.SimpleNamespace(info=types.SimpleNamespace(once=print))
        convert = function(
            folder / "utils/model.py", "convert_gptq_v1_to_v2_format_module", log=log, BaseQuantLinear=object
        )
        convert(module=module, bits=bits, pack_dtype=torch.int32)
    weights = function(folder / "nn_modules/qlinear/__init__.py", "dequantize_weight")(module)
    assert weights.shape == (cols, rows)
    return weights.T


def autoawq_weights(sources, layer, config):
    file = sources / "autoawq-0.2.9/awq/utils/packing_utils.py"
    names = {"AWQ_REVERSE_ORDER": [0, 4, 1, 5, 2, 6, 3, 7]}
    names = {name: function(file, name, **names) for name in ("unpack_awq", "reverse_awq_order")}
    scales = layer["scales"].to(torch.float32)
    dequantise = function(file, "dequantize_gemm", **names)
    return dequantise(layer["qweight"], layer["qzeros"], scales, 4, config["group_size"]).T


def library_weights(sources, layer, config):
    method = config["quant_method"]
    if method == "compressed-tensors":
        return dequantize(layer["weight"], layer["weight_scale"].to(torch.float32), dtype=torch.float32)
    if method == "fp8":
        scale = layer.get("weight_scale_inv", layer.get("weight_scale"))
        return _dequantize_fp8_weight(layer["weight"], scale, config["weight_block_size"], torch.float32)
    return (autoawq_weights if method == "awq" else gptqmodel_weights)(sources, layer, config)


def main():
    sources = pathlib.Path(sys.argv[1])
    configs = json.loads((FOLDER / "configs.json").read_text())
    for kind in KINDS:
        stored = load_file(FOLDER / f"{kind}.safetensors")
        expected = load_file(FOLDER / f"{kind}.weights.safetensors")
        for name in LAYERS:
            layer = {key[len(name) + 1 :]: tensor for key, tensor in stored.items() if key.startswith(f"{name}.")}
            weights = library_weights(sources, layer, configs[kind])
            assert torch.equal(weights, expected[f"{name}.weight"]), (kind, name)
        print(f"{kind}: equal")


if __name__ == "__main__":
    main()
