"""AdamW over what is trained; the two token rows of an adapter learn at a rate of their own."""

from typing import List

import torch

from ..model.adapter import token_parameters


def make_optimizer(model: torch.nn.Module, token_factor: float, weight_decay: float, betas: List[float]) -> torch.optim.AdamW:
    """Every group has "factor": its rate is that times the schedule's."""
    rows = token_parameters(model)
    of_rows = {id(row) for row in rows}
    others = [p for p in model.parameters() if p.requires_grad and id(p) not in of_rows]
    groups = [
        {"params": [p for p in others if p.dim() > 1], "factor": 1.0, "weight_decay": weight_decay},
        {"params": [p for p in others if p.dim() <= 1], "factor": 1.0, "weight_decay": 0.0},
        {"params": rows, "factor": token_factor, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=0.0, betas=tuple(betas), fused=True)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate * group["factor"]


def clip(model: torch.nn.Module, largest: float) -> float:
    """The norm of all gradients before they are scaled down to `largest`."""
    norm = torch.nn.utils.clip_grad_norm_([p for p in model.parameters() if p.requires_grad], largest)
    return float(norm.full_tensor() if hasattr(norm, "full_tensor") else norm)
