"""The folder of Medusa heads: medusa_lm_head.safetensors and config.json, as the reference's loader names their parts."""

import json
from pathlib import Path
from typing import Any, Dict

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from ..errors import InputError
from .heads import CONDITIONED, OWN, SHARED, MedusaHeads, Shape
from .output import CONFIG, Replaced

WEIGHTS, PUBLISHED = "medusa_lm_head.safetensors", "medusa_lm_head.pt"
NUM_HEADS, NUM_LAYERS = "medusa_num_heads", "medusa_num_layers"
TIED, READS_NEXT = "tie_lm_head", "reads_next_token"
NEXT_TOKEN = "next_token.weight"


def write_heads(heads: MedusaHeads, out: Path, base: str) -> None:
    """In bf16. `base` is the name of the model that they belong to."""
    shape = heads.shape
    config = {
        "model_type": "medusa",
        "base_model_name_or_path": base,
        NUM_HEADS: shape.heads,
        NUM_LAYERS: shape.layers,
        "hidden_size": shape.hidden,
        "vocab_size": shape.vocab,
        TIED: shape.kind != OWN,
        READS_NEXT: shape.kind == CONDITIONED,
        "dtype": "bfloat16",
    }
    with Replaced(out) as folder:
        state = {name: value.detach() for name, value in heads.state_dict().items()}
        if heads.next_token is not None:
            state[NEXT_TOKEN] = state[NEXT_TOKEN] / heads.next_token.unit
        tensors = {name: value.to("cpu", torch.bfloat16).contiguous() for name, value in state.items()}
        save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
        (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n")


# Control tokens and padding that the model has and the heads have not; as the server's loader.
MOST_MISSING = 1024


def read_heads(folder: Path, lm_head: torch.Tensor, embeddings: torch.Tensor) -> MedusaHeads:
    """Of a model whose last and first matrices [vocab, hidden] these are. Heads from before [Fork] and [Child] were added,
    as published ones are, have fewer rows. @raises InputError for a folder that does not fit the model"""
    path = folder / CONFIG
    vocab, hidden = lm_head.shape
    try:
        config = json.loads(path.read_text())
        heads, layers = (int(config[name]) for name in (NUM_HEADS, NUM_LAYERS))
        shared, reads_next = (bool(config.get(name, False)) for name in (TIED, READS_NEXT))
        drafted = int(config.get("vocab_size") or vocab)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError("broken_checkpoint", f"{path}: is no config.json of Medusa heads: {error}") from None
    if heads < 1 or layers < 0:
        raise InputError("broken_checkpoint", f"{path}: {heads} heads of {layers} layers")
    if reads_next and not shared:
        raise InputError("unsupported_checkpoint", f"{path}: {READS_NEXT} without {TIED}")
    kind = CONDITIONED if reads_next else SHARED if shared else OWN
    tensors = _read_tensors(folder)
    if shared:
        if not 1 <= drafted <= vocab:
            raise InputError("broken_checkpoint", f"{path}: heads that draft {drafted} of {vocab} tokens")
        vocab = drafted
    own = None if shared else tensors.get(f"0.{layers}.weight")
    if own is not None and own.dim() == 2 and vocab - MOST_MISSING <= len(own) < vocab:
        vocab = len(own)
    made = MedusaHeads(Shape(heads, layers, kind, hidden, vocab), lm_head, embeddings)
    for name, wanted in made.state_dict().items():
        if name not in tensors:
            raise InputError("broken_checkpoint", f"{folder}: has no tensor {name}")
        if tensors[name].shape != wanted.shape:
            raise InputError("broken_checkpoint", f"{folder}: {name} has shape {list(tensors[name].shape)}, "
                             f"the model asks for {list(wanted.shape)}")  # fmt: skip
        wanted.copy_(tensors[name])
    if made.next_token is not None:
        made.next_token.weight.data *= made.next_token.unit
    return made


def _read_tensors(folder: Path) -> Dict[str, torch.Tensor]:
    """Published heads are a file of torch, whose residual layers may share one weight."""
    try:
        if (folder / WEIGHTS).is_file():
            return load_file(folder / WEIGHTS)
        found: Any = torch.load(folder / PUBLISHED, map_location="cpu", weights_only=True)
    except (OSError, SafetensorError, RuntimeError, EOFError, ValueError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError("broken_checkpoint", f"{folder}: {reason}") from None
    except Exception as error:  # weights_only refuses by an error of pickle's
        raise InputError("broken_checkpoint", f"{folder / PUBLISHED}: {type(error).__name__}") from None
    if not isinstance(found, dict) or not all(isinstance(value, torch.Tensor) for value in found.values()):
        raise InputError("broken_checkpoint", f"{folder / PUBLISHED}: is no file of tensors")
    return found
