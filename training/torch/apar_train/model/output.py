"""The folder a run leaves: a model or an adapter, with all that it needs to be served, written beside and renamed."""

import json
import shutil
from pathlib import Path
from typing import Any, Dict

import torch
from peft import PeftModel, get_peft_model_state_dict
from safetensors.torch import save_file
from transformers import PreTrainedModel

from ..errors import InputError

CONFIG = "config.json"
# Of DATA/model; whatever of these is there goes with the model. Made by `apar data build`, never by transformers.
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "tokenizer.model",
    "chat_template.jinja",
    "generation_config.json",
)


def write_model(model: PreTrainedModel, weights: Dict[str, torch.Tensor], out: Path, build_model: Path) -> None:
    """A folder in Hugging Face's layout, bf16. `weights` are the whole state dict, on the CPU."""
    tied = getattr(model, "all_tied_weights_keys", {}) if model.config.tie_word_embeddings else {}
    stored = {name: value.to(torch.bfloat16) for name, value in weights.items() if name not in tied}
    with Replaced(out) as folder:
        model.save_pretrained(folder, state_dict=stored)
        own = json.loads((folder / CONFIG).read_text())
        own.update(branching=_branching(build_model), dtype="bfloat16")
        _write_json(folder / CONFIG, own)
        _copy(build_model, folder)


def write_adapter(
    model: PeftModel, weights: Dict[str, torch.Tensor], out: Path, build_model: Path, dtype: torch.dtype, vocab_size: int
) -> None:
    """An adapter folder of peft, with the tokenizer and the config.json of the merged model."""
    with Replaced(out) as folder:
        tensors = get_peft_model_state_dict(model, state_dict=weights, save_embedding_layers=False)
        tensors = {name: value.to(dtype).contiguous() for name, value in tensors.items()}
        save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
        settings = model.peft_config["default"]
        training, settings.inference_mode = settings.inference_mode, True
        settings.save_pretrained(str(folder))
        settings.inference_mode = training
        config = json.loads((build_model / CONFIG).read_text())
        config["vocab_size"] = vocab_size
        _write_json(folder / CONFIG, config)
        _copy(build_model, folder)


def check_target(out: Path, field: str = "branching") -> None:
    """@raises InputError foreign_folder when `out` is anything else than what a run left: its config.json has the field."""
    if not out.exists():
        return
    files = sorted(path.name for path in out.iterdir()) if out.is_dir() else [out.name]
    try:
        is_ours = not files or field in json.loads((out / CONFIG).read_text())
    except (OSError, ValueError, TypeError):
        is_ours = False
    if not is_ours:
        raise InputError("foreign_folder", f"--out: {out} would be replaced, and it has {files[0]}, but no {CONFIG} with the {field} "
                         "of a run: choose another")  # fmt: skip


class Replaced:
    """A new folder that takes the place of `target` when all of it has been written."""

    def __init__(self, target: Path) -> None:
        self.target = target
        # Names that nobody else gives a folder, because whatever is there is removed.
        self.part = target.with_name(f".{target.name}.apar-part")
        self.before = target.with_name(f".{target.name}.apar-before")

    def __enter__(self) -> Path:
        shutil.rmtree(self.part, ignore_errors=True)
        self.part.mkdir(parents=True)
        return self.part

    def __exit__(self, kind: Any, *_: Any) -> None:
        if kind is not None:
            shutil.rmtree(self.part, ignore_errors=True)
            return
        shutil.rmtree(self.before, ignore_errors=True)
        if self.target.exists():
            # A README.md is written about a model by hand or by `apar train`: it stays with the folder.
            for kept in self.target.glob("*.md"):
                shutil.copyfile(kept, self.part / kept.name)
            self.target.rename(self.before)
        self.part.rename(self.target)
        shutil.rmtree(self.before, ignore_errors=True)


def _branching(build_model: Path) -> Dict[str, Any]:
    return json.loads((build_model / CONFIG).read_text())["branching"]


def _copy(build_model: Path, folder: Path) -> None:
    for name in TOKENIZER_FILES:
        if (build_model / name).is_file():
            shutil.copyfile(build_model / name, folder / name)


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n")
