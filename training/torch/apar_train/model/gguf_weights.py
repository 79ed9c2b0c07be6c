"""A model whose weights come from a GGUF file. Names and numbers are gguf's business, the shape comes from config.json:
transformers' own conversion makes another tokenizer, and a model that cannot be saved."""

from pathlib import Path
from typing import Any, Dict

import gguf
import numpy as np
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from ..errors import InputError

# Architectures that the server reads too (gpu-node/checkpoint/gguf/architectures.ts): whether the file interleaves the
# two halves of each head's rows in q and k, because ggml rotates neighbouring elements.
INTERLEAVES = {"llama": True, "smollm3": True, "qwen2": False, "qwen3": False}


def load_gguf(path: Path, config: Any, dtype: torch.dtype) -> PreTrainedModel:
    try:
        reader = gguf.GGUFReader(path)
    except (ValueError, OSError, IndexError) as error:
        raise InputError("broken_checkpoint", f"{path}: is no GGUF file: {error}") from None
    field = reader.get_field("general.architecture")
    architecture = str(field.contents()) if field else ""
    if architecture not in INTERLEAVES:
        raise InputError("unsupported_checkpoint", f"{path}: architecture {architecture!r} is none of {', '.join(INTERLEAVES)}")
    kind = next(key for key, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture)
    names = gguf.get_tensor_name_map(kind, config.num_hidden_layers)
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    heads: Dict[str, int] = {}
    if INTERLEAVES[architecture]:
        heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    tied = model.config.tie_word_embeddings
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            stored_name = names.get_name(name, try_suffixes=(".weight", ".bias"))
            stored = tensors.get(stored_name or "")
            if stored is None:
                raise InputError("broken_checkpoint", f"{path}: has no tensor {stored_name} for {name}")
            values = gguf.dequantize(stored.data, stored.tensor_type)
            part = stored_name.split(".")[-2]
            if part in heads:
                values = _halves(values, heads[part])
            if values.shape != tuple(parameter.shape):
                raise InputError("broken_checkpoint", f"{path}: {stored_name}: shape {list(values.shape)}, "
                                 f"config.json asks for {list(parameter.shape)}")  # fmt: skip
            parameter.copy_(torch.from_numpy(np.array(values)))
    if tied and "output.weight" in tensors:
        raise InputError("broken_checkpoint", f"{path}: has a head of its own, config.json says that it is tied")
    return model


def _halves(rows: np.ndarray, heads: int) -> np.ndarray:
    """[heads * head_dim, ...] with interleaved halves, as transformers has them: the first half of a head, then the second."""
    return rows.reshape(heads, -1, 2, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)
