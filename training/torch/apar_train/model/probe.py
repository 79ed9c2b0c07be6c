"""Asks a model whether it attends as told, before it is trained: some architectures make masks of their own, or carry a
state from token to token (Mamba, linear attention)."""

import dataclasses

import numpy as np
import torch
from transformers import PreTrainedModel

from ..data.packing import Pack, Weights, pack_examples
from ..data.shards import STRUCTURED, Example, Meta
from ..errors import InputError
from .attention import inputs_of

# [prompt, detail, next main segment]; the detail and what follows it are siblings.
STARTS, PARENTS = np.array([0, 3, 5, 7]), np.array([-1, 0, 0])
DETAIL, AFTER = 4, 6
# bf16 has 8 bits; a token that is seen moves the result by far more.
TOLERANCE = 0.02


@torch.no_grad()
def check_attention(
    model: torch.nn.Module, plain: PreTrainedModel, kind: str, device: torch.device, dtype: torch.dtype, vocab: int
) -> None:
    """@raises InputError when a sibling's token changes the result, or when an ancestor's does not."""
    ids = np.arange(7) * 7919 % min(vocab, 1000)
    meta = Meta(vocab, (0,), 0, 0)
    example = Example(ids, np.ones(7, dtype=bool) & (np.arange(7) > 0), STARTS, PARENTS, STRUCTURED)

    def last(pack: Pack) -> torch.Tensor:
        at = torch.tensor([AFTER], device=device)
        return model(**inputs_of(pack, kind, dtype), logits_to_keep=at).logits[0, 0].float()

    def changed(at: int) -> Pack:
        other = ids.copy()
        other[at] = (other[at] + 1) % vocab
        return pack_examples([dataclasses.replace(example, ids=other)], meta, Weights()).to(device)

    training = model.training
    model.eval()
    name = type(plain).__name__
    try:
        before, sibling, ancestor = last(pack_examples([example], meta, Weights()).to(device)), last(changed(DETAIL)), last(changed(0))
    except TypeError as error:
        raise InputError("unsupported_checkpoint", f"{name} cannot be told what to attend to: {error}") from None
    finally:
        model.train(training)
    scale = before.abs().max()
    if (sibling - before).abs().max() > TOLERANCE * scale:
        raise InputError("unsupported_checkpoint", f"{name} lets a branch see its sibling: its layers do not attend by a given mask")
    if torch.equal(ancestor, before):
        raise InputError("unsupported_checkpoint", f"{name} does not see the tokens above a branch")
