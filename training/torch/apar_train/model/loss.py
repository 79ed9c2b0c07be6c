"""The training loss of a pack."""

from typing import Any, Dict, NamedTuple, Tuple

import torch

from ..data.packing import Pack
from ..data.shards import KINDS, Meta
from .attention import inputs_of

# Rows of logits that are worked on at once: in f32 they should stay in a CPU's cache.
CHUNK = 32


class TokenLosses(NamedTuple):
    """Cross-entropy (nats) of each learned token of a pack, f32 [M]."""

    losses: torch.Tensor
    pack: Pack

    def weighted_sum(self) -> torch.Tensor:
        return (self.losses * self.pack.weights).sum()

    def sums(self, meta: Meta) -> Dict[str, torch.Tensor]:
        """For the log: [sum, count] of each kind, and of [Fork] and of ends as targets."""
        targets = self.pack.targets
        eos = torch.isin(targets, torch.tensor(meta.eos, device=targets.device))
        parts = {name: self.pack.kinds == kind for kind, name in enumerate(KINDS)}
        parts.update(fork=targets == meta.fork, eos=eos)
        losses = self.losses.detach().double()
        return {name: torch.stack([losses[part].sum(), part.sum().double()]) for name, part in parts.items()}


def token_losses(model: torch.nn.Module, pack: Pack, meta: Meta, attention: str, dtype: torch.dtype) -> TokenLosses:
    """The head runs only where something is learned. A banned [Fork] has no probability there: serial copies teach what
    follows where a fork is refused, without taking anything from the probability of a fork."""
    logits = model(**inputs_of(pack, attention, dtype), logits_to_keep=pack.sources).logits[0]
    return TokenLosses(CrossEntropy.apply(logits, pack.targets, pack.banned, meta.fork), pack)


class CrossEntropy(torch.autograd.Function):
    """-log softmax(logits)[target] in f32 of logits in any type, and its gradient, in one pass over the logits."""

    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor, targets: torch.Tensor, banned: torch.Tensor, fork: int) -> torch.Tensor:
        losses = torch.empty(len(targets), dtype=torch.float32, device=logits.device)
        needed = ctx.needs_input_grad[0]
        gradient = torch.empty_like(logits) if needed else None
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
                gradient[rows] = values
        ctx.gradient = gradient
        return losses

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> Tuple[torch.Tensor, None, None, None]:
        # In place, so once: there is nothing larger in a step than the logits of a large vocabulary.
        gradient, ctx.gradient = ctx.gradient, None
        return gradient.mul_(upstream[0][:, None]), None, None, None
