"""An adapted model's own base as its teacher: what it says of a text without branches."""

import contextlib
from typing import Any, Iterator

import torch
from peft.tuners.tuners_utils import BaseTunerLayer

from ..data.packing import Pack
from ..data.shards import Meta
from .attention import inputs_of


@contextlib.contextmanager
def without_adapter(model: torch.nn.Module) -> Iterator[None]:
    """peft's own way also stops and starts gradients, which FSDP2 does not expect between two passes."""
    layers = [module for module in model.modules() if isinstance(module, BaseTunerLayer)]
    for layer in layers:
        layer._disable_adapters = True
    try:
        yield
    finally:
        for layer in layers:
            layer._disable_adapters = False


@torch.no_grad()
def teacher_logits(call: Any, adapted: torch.nn.Module, pack: Pack, meta: Meta, attention: str, dtype: torch.dtype) -> torch.Tensor:
    """[K, V] of the K learned tokens of the packed texts. `call`: `adapted` as it is called in training. The base knows
    neither [Fork] nor [Child]."""
    with without_adapter(adapted):
        logits = call(**inputs_of(pack, attention, dtype), logits_to_keep=pack.sources).logits[0]
    logits[:, [meta.fork, meta.child]] = float("-inf")
    return logits
