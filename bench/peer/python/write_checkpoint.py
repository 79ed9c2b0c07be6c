"""Writes the weights of a GGUF file, or of a folder as transformers has it, into a folder that has config.json and the
tokenizer: bf16, or int8 as vLLM reads it. Run with the trainer's Python: write_checkpoint.py MODEL FOLDER bf16|int8"""

import json
import sys
from pathlib import Path

import torch
from apar_train.model.base import open_model
from safetensors.torch import save_file

# As compressed-tensors has it: a scale for each row of a weight; activations are rounded for each token while it runs.
INT8 = {"num_bits": 8, "type": "int", "symmetric": True}
QUANTIZATION = {
    "quant_method": "compressed-tensors",
    "format": "int-quantized",
    "quantization_status": "compressed",
    "ignore": ["lm_head"],
    "config_groups": {
        "group_0": {
            "targets": ["Linear"],
            "weights": {**INT8, "strategy": "channel", "dynamic": False},
            "input_activations": {**INT8, "strategy": "token", "dynamic": True},
        }
    },
}


def main(source: Path, folder: Path, dtype: str) -> None:
    model = open_model(str(source), folder, torch.bfloat16)
    model.save_pretrained(folder)
    if dtype == "bf16":
        return
    state = dict(model.named_parameters())
    tensors = {}
    for name, weight in state.items():
        if name.endswith("_proj.weight"):
            scale = weight.detach().float().abs().amax(dim=1, keepdim=True).clamp_min(1e-8) / 127
            tensors[name] = (weight.detach().float() / scale).round().clamp(-127, 127).to(torch.int8)
            tensors[f"{name}_scale"] = scale
        else:
            tensors[name] = weight.detach()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "quantization_config": QUANTIZATION}, indent=2))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
