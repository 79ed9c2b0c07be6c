"""A model that is not trained: its adapter is merged, and its hidden states are computed without gradients."""

from pathlib import Path
from typing import Optional

import torch
from transformers import PreTrainedModel

from ..data.packing import Pack
from ..errors import InputError
from .adapter import open_adapter
from .attention import inputs_of
from .base import NOTHING, fit_vocabulary, open_model

# Of the largest logit: the head's own product may be rounded in another order.
TOLERANCE = 0.01


def open_frozen(model: str, adapter: Optional[Path], build_model: Path, vocab: int, dtype: torch.dtype) -> PreTrainedModel:
    """On the CPU, in `dtype`. `vocab`: tokens of the data. An adapter is added in f32 and then rounded, as the server does."""
    if model == NOTHING:
        raise InputError("invalid_request", "--model none: heads are trained on a model that is there")
    plain = open_model(model, build_model, torch.float32 if adapter else dtype)
    rows = plain.get_input_embeddings().weight.shape[0]
    if adapter is None and rows < vocab:
        raise InputError("invalid_request", f"--model {model}: has {rows} tokens, the data have {vocab}: give the model that was "
                         "tuned to fork, or its --adapter")  # fmt: skip
    fit_vocabulary(plain, vocab)
    if adapter is not None:
        plain = open_adapter(plain, adapter).merge_and_unload().to(dtype)
    return plain.requires_grad_(False).eval()


def lm_head_of(plain: PreTrainedModel) -> torch.Tensor:
    """[vocab, hidden] @raises InputError where logits are more than a product with one matrix"""
    head = plain.get_output_embeddings()
    if not isinstance(head, torch.nn.Linear) or head.bias is not None:
        raise InputError("unsupported_checkpoint", f"{type(plain).__name__}: its logits are no product with one matrix")
    return head.weight


@torch.no_grad()
def hidden_states(plain: PreTrainedModel, pack: Pack, attention: str, dtype: torch.dtype) -> torch.Tensor:
    """[N, hidden] after the final norm: what the model's own head reads."""
    return plain.base_model(**inputs_of(pack, attention, dtype)).last_hidden_state[0]


@torch.no_grad()
def check_head(plain: PreTrainedModel, pack: Pack, attention: str, dtype: torch.dtype) -> None:
    """@raises InputError where logits are not the product of hidden states and head: scaled, capped, or normalised again"""
    at = torch.arange(min(4, len(pack)), device=pack.ids.device)
    expected = plain(**inputs_of(pack, attention, dtype), logits_to_keep=at).logits[0].float()
    found = (hidden_states(plain, pack, attention, dtype)[at] @ lm_head_of(plain).t()).float()
    if not (found - expected).abs().max() <= TOLERANCE * expected.abs().max():
        raise InputError("unsupported_checkpoint", f"{type(plain).__name__}: its logits are no product with one matrix")
