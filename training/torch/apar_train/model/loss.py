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


class Soft(NamedTuple):
    """A teacher's distribution, in which a share of some targets is replaced."""

    logits: torch.Tensor  # [K, V]
    rows: torch.Tensor  # bool [M], K of them
    share: float

    def part(self, begin: int, end: int) -> Tuple[torch.Tensor, torch.Tensor]:
        """Of targets begin..end: which are soft, counted from begin, and their probabilities, f32 [k, V]."""
        at = self.rows[begin:end].nonzero()[:, 0]
        first = int(self.rows[:begin].sum())
        return at, self.logits[first : first + len(at)].to(torch.float32).softmax(1)


class TokenLosses(NamedTuple):
    total: torch.Tensor  # [], differentiable: factor * sum of weight * loss, with a teacher's share
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
    model: torch.nn.Module, pack: Pack, meta: Meta, attention: str, dtype: torch.dtype, factor: float = 1.0,
    soft: Optional[Soft] = None,
) -> TokenLosses:  # fmt: skip
    """The head runs only where something is learned. A banned [Fork] has no probability there: serial copies teach what
    follows where a fork is refused, without taking anything from the probability of a fork."""
    logits = model(**inputs_of(pack, attention, dtype), logits_to_keep=pack.sources).logits[0]
    total, losses = CrossEntropy.apply(logits, pack.targets, pack.weights * factor, pack.banned, meta.fork, soft)
    return TokenLosses(total, losses, pack)


class CrossEntropy(torch.autograd.Function):
    """-log softmax(logits)[target] in f32 of logits in any type; the sum with weights, in which soft targets count as well,
    and its gradient. Logits of a large vocabulary are the largest thing in a step: they are read once, and only the
    gradient is kept."""

    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor, banned: torch.Tensor,
                fork: int, soft: Optional[Soft] = None) -> Tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
        gradient = torch.empty_like(logits) if ctx.needs_input_grad[0] else None
        losses, mixed = cross_entropy(logits, targets, weights, banned, fork, gradient, soft)
        ctx.gradient = gradient
        ctx.mark_non_differentiable(losses)
        return (mixed * weights).sum(), losses

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> Tuple[Optional[torch.Tensor], ...]:
        # In place, so once.
        gradient, ctx.gradient = ctx.gradient, None
        return gradient if float(upstream[0]) == 1 else gradient.mul_(upstream[0]), None, None, None, None, None


def cross_entropy(
    logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor, banned: torch.Tensor, fork: int,
    gradient: Optional[torch.Tensor], soft: Optional[Soft] = None,
) -> Tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
    """Of logits [M, V] in any type: the cross-entropy with the targets, f32 [M], and the same with the teacher's share. The
    weighted sum's gradient of the second is written to `gradient`, which may be the logits' own memory."""
    losses = torch.empty(len(targets), dtype=torch.float32, device=logits.device)
    mixed = losses if soft is None else torch.empty_like(losses)
    bans = torch.zeros_like(losses).masked_fill_(banned, float("-inf"))
    step = CHUNK if logits.device.type == "cpu" else max(1, len(targets))
    for begin in range(0, len(targets), step):
        rows = slice(begin, begin + step)
        values = logits[rows].to(torch.float32, copy=True)
        values[:, fork] += bans[rows]
        target = targets[rows, None]
        values -= values.logsumexp(1, keepdim=True)
        losses[rows] = -values.gather(1, target)[:, 0]
        hard = torch.ones_like(losses[rows])
        if soft is not None:
            at, probabilities = soft.part(begin, begin + step)
            hard[at] -= soft.share
            mixed[rows] = hard * losses[rows]
            mixed[rows].index_add_(0, at, _crossed(probabilities, values[at], fork), alpha=soft.share)
        if gradient is not None:
            values.exp_().scatter_add_(1, target, -hard[:, None])
            if soft is not None:
                values.index_add_(0, at, probabilities, alpha=-soft.share)
            gradient[rows] = values.mul_(weights[rows, None])
    return losses, mixed


def _crossed(probabilities: torch.Tensor, log_probabilities: torch.Tensor, fork: int) -> torch.Tensor:
    """[K]: cross-entropy with a teacher that never forks; a banned fork's logarithm is infinite."""
    log_probabilities[:, fork] = 0
    return -(probabilities * log_probabilities).sum(1)
