"""The training loss on a packed batch."""

from typing import Tuple

import torch
import torch.nn.functional as F

from .model import LlamaForCausalLM
from .packing import Batch


def weighted_loss(model: LlamaForCausalLM, batch: Batch) -> Tuple[torch.Tensor, torch.Tensor]:
    """Sum over learned tokens of weight * cross-entropy (nats), and the sum of the weights.

    A banned token has no probability there. So serial answers teach what follows where a fork is refused, without taking anything from
    the probability of a fork.
    The head runs only where something is learned: with 4k pieces it is a third of this model's arithmetic.
    """
    hidden = model.hidden(batch.ids, batch.positions, batch.bias)
    chosen = hidden.reshape(-1, hidden.shape[-1])[batch.sources]
    logits = model.logits(chosen).float()
    rows = torch.nonzero(batch.banned >= 0).flatten()
    logits[rows, batch.banned[rows]] = float("-inf")
    losses = F.cross_entropy(logits, batch.targets, reduction="none")
    return (losses * batch.weights).sum(), batch.weights.sum()
