"""Opens the model that training begins with: a folder that transformers opens, a GGUF file, or none."""

from pathlib import Path
from typing import Any, Optional

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel
from transformers.utils import logging

from ..errors import InputError
from .gguf_weights import load_gguf

NOTHING = "none"
logging.disable_progress_bar()


def open_model(model: str, build_model: Path, dtype: torch.dtype) -> PreTrainedModel:
    """On the CPU, in `dtype`. `build_model` is DATA/model: the shape, where the model does not bring its own."""
    if model == NOTHING:
        return AutoModelForCausalLM.from_config(read_config(build_model), dtype=dtype)
    path = Path(model)
    if path.is_dir():
        try:
            return AutoModelForCausalLM.from_pretrained(path, dtype=dtype, local_files_only=True)
        except (OSError, ValueError, KeyError) as error:
            raise InputError("broken_checkpoint", f"{path}: {_first_line(error)}") from None
    if not path.is_file():
        raise InputError("invalid_request", f"--model {model}: no such folder or file")
    if path.suffix != ".gguf":
        raise InputError("invalid_request", f"--model {model}: is neither a folder nor a GGUF file")
    return load_gguf(path, read_config(build_model), dtype)


def read_config(folder: Path) -> Any:
    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise InputError("broken_checkpoint", f"{folder / 'config.json'}: {_first_line(error)}") from None


def fit_vocabulary(model: PreTrainedModel, vocab_size: int) -> int:
    """Adds rows for tokens that the tokenizer has and the model has not; the number of rows."""
    if model.get_input_embeddings().weight.shape[0] < vocab_size:
        model.resize_token_embeddings(vocab_size, mean_resizing=False)
    return model.get_input_embeddings().weight.shape[0]


def context_of(model: PreTrainedModel) -> Optional[int]:
    return getattr(model.config.get_text_config(), "max_position_embeddings", None)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
