"""The training loss of a pack."""

from typing import Any, Dict, NamedTuple, Optional, Protocol, Tuple

import torch

from ..data.packing import Pack
from ..data.shards import KINDS, Meta
from .attention import inputs_of

# Rows of logits that are worked on at once: in f32 they should stay in a CPU's cache.
CHUNK = 32


class Losses(Protocol):
    """What a trainer asks of the losses of a pack."""

    @property
    def total(self) -> torch.Tensor:
        """[], differentiable: factor * sum of weight * loss."""
        ...

    def weighted_sum(self) -> torch.Tensor: ...

    def sums(self, meta: Meta) -> Dict[str, torch.Tensor]:
        """For the log: [sum, count] by name."""
        ...


class TokenLosses(NamedTuple):
    total: torch.Tensor  # [], differentiable: factor * sum of weight * loss
    losses: torch.Tensor  # f32 [M]: cross-entropy (nats) of each learned token
    pack: Pack

    def weighted_sum(self) -> torch.Tensor:
        return (self.losses * self.pack.weights).sum()

    def sums(self, meta: Meta) -> Dict[str, torch.Tensor]:
        """For the log: [sum, count] of each kind, and of [Fork] and of ends as targets."""
        targets = self.pack.targets
        eos = torch.isin(targets, torch.tensor(meta.eos, device=targets.device))
        parts = {name: self.pack.kinds == kind for kind, name in enumerate(KINDS)}
        parts.update(fork=targets == meta.fork, eos=eos)
        losses = self.losses.double()
        return {name: torch.stack([losses[part].sum(), part.sum().double()]) for name, part in parts.items()}


def token_losses(
    model: torch.nn.Module, pack: Pack, meta: Meta, attention: str, dtype: torch.dtype, factor: float = 1.0
) -> TokenLosses:
    """The head runs only where something is learned. A banned [Fork] has no probability there: serial copies teach what
    follows where a fork is refused, without taking anything from the probability of a fork."""
    logits = model(**inputs_of(pack, attention, dtype), logits_to_keep=pack.sources).logits[0]
    total, losses = CrossEntropy.apply(logits, pack.targets, pack.weights * factor, pack.banned, meta.fork)
    return TokenLosses(total, losses, pack)


class CrossEntropy(torch.autograd.Function):
    """-log softmax(logits)[target] in f32 of logits in any type, their sum with weights, and its gradient. Logits of a
    large vocabulary are the largest thing in a step: they are read once, and only the gradient is kept."""

    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor, banned: torch.Tensor,
                fork: int) -> Tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
        gradient = torch.empty_like(logits) if ctx.needs_input_grad[0] else None
        losses = cross_entropy(logits, targets, weights, banned, fork, gradient)
        ctx.gradient = gradient
        ctx.mark_non_differentiable(losses)
        return (losses * weights).sum(), losses

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> Tuple[Optional[torch.Tensor], ...]:
        # In place, so once.
        gradient, ctx.gradient = ctx.gradient, None
        return gradient if float(upstream[0]) == 1 else gradient.mul_(upstream[0]), None, None, None, None


def cross_entropy(
    logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor, banned: torch.Tensor, fork: int,
    gradient: Optional[torch.Tensor],
) -> torch.Tensor:  # fmt: skip
    """f32 [M] of logits [M, V] in any type. Their weighted sum's gradient is written to `gradient`, which may be the logits'
    own memory."""
    losses = torch.empty(len(targets), dtype=torch.float32, device=logits.device)
    bans = torch.zeros_like(losses).masked_fill_(banned, float("-inf"))
    step = CHUNK if logits.device.type == "cpu" else max(1, len(targets))
    for begin in range(0, len(targets), step):
        rows = slice(begin, begin + step)
        values = logits[rows].to(torch.float32, copy=True)
        values[:, fork] += bans[rows]
        target = targets[rows, None]
        values -= values.logsumexp(1, keepdim=True)
        losses[rows] = -values.gather(1, target)[:, 0]
        if gradient is not None:
            values.exp_().scatter_add_(1, target, torch.full_like(target, -1, dtype=values.dtype))
            gradient[rows] = values.mul_(weights[rows, None])
    return losses
