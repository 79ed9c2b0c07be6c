"""A model folder in Hugging Face's layout, as apar's gpu node reads it."""

import json
import shutil
from dataclasses import asdict, fields
from pathlib import Path

import torch

from . import safetensors
from .model import Config, LlamaForCausalLM


def export(model: LlamaForCausalLM, folder: Path, data: Path, bos: int, eos: int) -> None:
    """Writes weights (bf16), config, tokenizer and generation config. `data` is the folder made by `apar data build`."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: tensor.to(torch.bfloat16) for name, tensor in model.state_dict().items()}
    # Written beside and renamed: a server that reads the folder never sees half a file.
    safetensors.save(weights, folder / "model.safetensors.tmp")
    (folder / "model.safetensors.tmp").replace(folder / "model.safetensors")
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        **asdict(model.config),
        "bos_token_id": bos,
        "eos_token_id": eos,
        "torch_dtype": "bfloat16",
        # What apar must know of this checkpoint: its marker tokens, and that white space around them was kept.
        "apar": {"fork_token": "[Fork]", "child_token": "[Child]", "joints": "kept"},
    }
    write_json(folder / "config.json", config)
    write_json(folder / "generation_config.json", {"do_sample": False, "bos_token_id": bos, "eos_token_id": eos})
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(Path(data) / name, folder / name)


def load(folder: Path) -> LlamaForCausalLM:
    """The model of a folder that `export` wrote, in float32 (its weights are the bf16-rounded ones)."""
    raw = json.loads((Path(folder) / "config.json").read_text())
    model = LlamaForCausalLM(Config(**{f.name: raw[f.name] for f in fields(Config)}))
    tensors = safetensors.load(Path(folder) / "model.safetensors")
    model.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    return model.eval()


def write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n")
