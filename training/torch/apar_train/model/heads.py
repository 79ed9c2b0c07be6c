"""Medusa heads on a frozen model: head i predicts the token at offset i + 2 from the token whose hidden state it reads.

Offsets run along the paths of a tree of segments: a token that is learned is the target of every head once, from its
ancestor i + 2 tokens above. Where a path forks, the ancestor is judged by the tokens of each continuation, as it would be
in separate rows (tests/test_heads.py).
"""

from dataclasses import dataclass
from typing import Dict, List, NamedTuple, Optional, Tuple

import torch
import torch.nn.functional as F

from ..data.packing import Pack
from ..data.shards import Meta
from .head_loss import HeadLoss

OWN, SHARED, CONDITIONED = "own", "shared", "conditioned"
TOP = (1, 2, 3, 5, 7, 10)


class ResidualBlock(torch.nn.Module):
    """x + SiLU(W x + b), which begins as x: so a head begins as the model's own."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(hidden, hidden)
        torch.nn.init.zeros_(self.linear.weight)
        torch.nn.init.zeros_(self.linear.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + F.silu(F.linear(x, self.linear.weight.to(x.dtype), self.linear.bias.to(x.dtype)))


class NextToken(torch.nn.Module):
    """x + W e, which begins as x: e [.., hidden] is the embedding of the token behind the one whose hidden state is x. The
    parameter learns at the rate of the others, because it is W times the root mean square of embeddings, which are small."""

    def __init__(self, embeddings: torch.Tensor) -> None:
        super().__init__()
        hidden = embeddings.shape[1]
        self.weight = torch.nn.Parameter(torch.zeros(hidden, hidden))
        self.unit = float(embeddings.detach().float().pow(2).mean().sqrt())

    def forward(self, x: torch.Tensor, e: torch.Tensor) -> torch.Tensor:
        return x + F.linear(e / self.unit, self.weight.to(x.dtype))


@dataclass(frozen=True)
class Shape:
    heads: int
    layers: int  # residual blocks of a head
    # own: a head ends with a matrix of its own; shared: with the model's; conditioned: shared, and reads the next token
    kind: str
    hidden: int
    vocab: int  # rows of the matrix that are used, at most the model's: tokens that heads draft


class MedusaHeads(torch.nn.Module):
    """In f32. The names of its parameters are those of medusa_lm_head.safetensors: HEAD.LAYER.linear.weight,
    HEAD.LAYERS.weight for a matrix of its own, and next_token.weight."""

    def __init__(self, shape: Shape, lm_head: torch.Tensor, embeddings: torch.Tensor) -> None:
        """Both matrices [vocab, hidden] are the model's; a copy of `lm_head` begins a matrix of a head's own."""
        super().__init__()
        self.shape = shape
        for head in range(shape.heads):
            parts: List[torch.nn.Module] = [ResidualBlock(shape.hidden) for _ in range(shape.layers)]
            if shape.kind == OWN:
                matrix = torch.nn.Linear(shape.hidden, shape.vocab, bias=False, device="meta")
                matrix.weight = torch.nn.Parameter(lm_head.detach()[: shape.vocab].to(torch.float32, copy=True))
                parts.append(matrix)
            self.add_module(str(head), torch.nn.Sequential(*parts))
        self.next_token = NextToken(embeddings) if shape.kind == CONDITIONED else None

    def forward(
        self, hidden: torch.Tensor, pack: Pack, lm_head: torch.Tensor, embeddings: torch.Tensor, factor: float, fork: int, ranks: bool
    ) -> "HeadLosses":
        """Of hidden states [N, hidden] of a pack's N tokens, after the final norm. `ranks`: also how many tokens each head
        holds likelier than the target. Targets that a head has no row for are left out: it never drafts them."""
        found: List[Tuple[torch.Tensor, ...]] = []
        for head in range(self.shape.heads):
            module = self.get_submodule(str(head))
            sources, behind, here = sources_of(pack, head)
            matrix = module[-1].weight if self.shape.kind == OWN else lm_head[: self.shape.vocab]
            known = pack.targets[here] < len(matrix)
            sources, behind, here = sources[known], behind[known], here[known]
            x = hidden[sources]
            if self.next_token is not None:
                x = self.next_token(x, embeddings[pack.ids[behind]].to(x.dtype))
            for block in module[: self.shape.layers]:
                x = block(x)
            weights = pack.weights[here]
            # What a head has no row for cannot be chosen anyway.
            banned, row = pack.banned[here] & (fork < len(matrix)), min(fork, len(matrix) - 1)
            total, losses, ranked = HeadLoss.apply(x, matrix, pack.targets[here], weights * factor, banned, row, ranks)
            found.append((total, losses, weights, ranked))
        totals, losses, weights, ranked = zip(*found)
        return HeadLosses(torch.stack(totals).sum(), list(losses), list(weights), list(ranked) if ranks else None)


def sources_of(pack: Pack, head: int) -> Tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Of the M learned tokens those that have a token head + 2 above them: that token [m], the one behind it on the path [m],
    and which they are, [m] of M."""
    at = behind = pack.sources
    for _ in range(head + 1):
        behind, at = at, torch.where(at >= 0, pack.before[at.clamp(min=0)], at)
    here = torch.nonzero(at >= 0)[:, 0]
    return at[here], behind[here], here


class HeadLosses(NamedTuple):
    total: torch.Tensor  # [], differentiable: factor * sum over heads and targets of weight * loss
    losses: List[torch.Tensor]  # of each head, f32 [m]: cross-entropy (nats)
    weights: List[torch.Tensor]  # of each head, f32 [m]
    ranks: Optional[List[torch.Tensor]]  # of each head, int64 [m]: 0 where the target is the likeliest token

    def weighted_sum(self) -> torch.Tensor:
        return torch.stack([(losses * weights).sum() for losses, weights in zip(self.losses, self.weights)]).sum()

    def sums(self, _meta: Meta) -> Dict[str, torch.Tensor]:
        """For the log: [sum, count] of each head's losses, and of its hits among its k likeliest tokens."""
        found: Dict[str, torch.Tensor] = {}
        for head, losses in enumerate(self.losses):
            values = losses.double()
            count = values.new_tensor(len(values))
            found[loss_name(head)] = torch.stack([values.sum(), count])
            for k in TOP if self.ranks else ():
                found[top_name(head, k)] = torch.stack([(self.ranks[head] < k).sum().double(), count])
        return found


def loss_name(head: int) -> str:
    return f"head_{head}_loss"


def top_name(head: int, k: int) -> str:
    return f"head_{head}_top_{k}"


def sum_names(heads: int) -> Tuple[str, ...]:
    return tuple(name for head in range(heads) for name in (loss_name(head), *(top_name(head, k) for k in TOP)))


def head_means(sums: Dict[str, Tuple[float, float]]) -> Dict[str, float]:
    """{"loss": the sum over heads, "head_0_loss": nats per target, "head_0_top_1": share, ...} of (sum, count) per name."""
    means = {name: total / count for name, (total, count) in sums.items() if count > 0}
    losses = [value for name, value in means.items() if name.endswith("_loss")]
    whole = {"loss": sum(losses)} if losses else {}
    return {name: round(value, 4) for name, value in {**whole, **means}.items()}
