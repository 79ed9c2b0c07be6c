"""The loss of a head's last matrix, without keeping its logits: they are made for some targets at a time, and of each only
the gradient of its row is kept."""

from typing import Any, Optional, Tuple

import torch

from .loss import cross_entropy

# Of logits in f32: what stays in a CPU's memory while they are worked on, and what fills a GPU.
CHUNK_BYTES = {"cpu": 32 << 20, "cuda": 512 << 20}


class HeadLoss(torch.autograd.Function):
    """Rows [m, H] and a matrix [V, H] -> the weighted sum of -log softmax(row · matrixᵀ)[target], f32 losses [m], and, where
    they are `ranked`, int64 ranks [m], else [0]. What is ranked has no gradient. The arithmetic is that of the rows' type,
    sums are f32. A banned [Fork] has no probability, as in the model's own loss."""

    @staticmethod
    def forward(ctx: Any, rows: torch.Tensor, matrix: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor,
                banned: torch.Tensor, fork: int, ranked: bool) -> Tuple[torch.Tensor, ...]:  # fmt: skip
        factor = matrix.to(rows.dtype)
        losses = torch.empty(len(rows), dtype=torch.float32, device=rows.device)
        ranks = torch.empty(len(rows) if ranked else 0, dtype=torch.int64, device=rows.device)
        d_rows = torch.empty_like(rows) if ctx.needs_input_grad[0] and not ranked else None
        d_matrix = torch.zeros_like(matrix, dtype=torch.float32) if ctx.needs_input_grad[1] and not ranked else None
        step = max(1, CHUNK_BYTES.get(rows.device.type, CHUNK_BYTES["cpu"]) // (4 * len(matrix)))
        for begin in range(0, len(rows), step):
            part = slice(begin, begin + step)
            logits = rows[part] @ factor.t()
            if ranked:
                ranks[part] = ranks_of(logits, targets[part], banned[part], fork)
            gradient = None if d_rows is None and d_matrix is None else logits
            losses[part], _ = cross_entropy(logits, targets[part], weights[part], banned[part], fork, gradient)
            if d_rows is not None:
                d_rows[part] = logits @ factor
            if d_matrix is not None:
                d_matrix += logits.t() @ rows[part]
        ctx.gradients = d_rows, d_matrix
        ctx.mark_non_differentiable(losses, ranks)
        return (losses * weights).sum(), losses, ranks

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> Tuple[Optional[torch.Tensor], ...]:
        # In place, so once.
        gradients, ctx.gradients = ctx.gradients, None
        scale = float(upstream[0])
        d_rows, d_matrix = (g if g is None or scale == 1 else g.mul_(scale) for g in gradients)
        return d_rows, d_matrix, None, None, None, None, None


def ranks_of(logits: torch.Tensor, targets: torch.Tensor, banned: torch.Tensor, fork: int) -> torch.Tensor:
    """int64 [m]: how many tokens come before the target, of logits [m, V]; of equal ones the lower id is the first."""
    own = logits.gather(1, targets[:, None])
    ids = torch.arange(logits.shape[1], device=logits.device)
    ahead = (logits > own) | ((logits == own) & (ids < targets[:, None]))
    ahead[:, fork] &= ~banned
    return ahead.sum(1)
