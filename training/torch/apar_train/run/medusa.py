"""Medusa heads on a frozen model: python -m apar_train medusa."""

import argparse
from typing import Any, Dict, Tuple

import torch

from ..data.packing import Pack, filler
from ..errors import InputError
from ..model.frozen import check_head, hidden_states, lm_head_of, open_frozen
from ..model.heads import OWN, HeadLosses, MedusaHeads, Shape, head_means, sum_names
from ..model.medusa_folder import NUM_HEADS, write_heads
from ..model.output import check_target
from .processes import Processes
from .trainer import Trainer, train

RATE = 1e-3
# Of the steps; where only the clock ends a run, so many steps.
WARMUP_SHARE, WARMUP_STEPS = 0.1, 20


def run(args: argparse.Namespace) -> bool:
    return train(MedusaTrainer, args)


class MedusaTrainer(Trainer):
    SAME = (*Trainer.SAME, "adapter", "heads", "kind", "layers", "draft_vocab")

    def __init__(self, args: argparse.Namespace, processes: Processes) -> None:
        check_target(args.out, NUM_HEADS)
        if args.kind == OWN and args.draft_vocab:
            raise InputError("invalid_request", "--draft-vocab is for heads that share the model's matrix, not --kind own")
        super().__init__(args, processes)

    def open(self) -> Tuple[Any, torch.nn.Module]:
        args = self.args
        plain = open_frozen(args.model, args.adapter, self.build_model, self.meta.vocab_size, self.dtype)
        plain.set_attn_implementation(self.attention)
        plain.to(self.device)
        self.lm_head = lm_head_of(plain)
        self.vocab_size, hidden = self.lm_head.shape
        self.embeddings = plain.get_input_embeddings().weight
        vocab = min(args.draft_vocab or self.vocab_size, self.vocab_size)
        shape = Shape(args.heads, args.layers, args.kind, hidden, vocab)
        return plain, MedusaHeads(shape, self.lm_head, self.embeddings)

    def begin(self) -> None:
        check_head(self.plain, filler(self.meta).to(self.device), self.attention, self.dtype)
        super().begin()

    def default_rate(self) -> float:
        return RATE

    def warmup_steps(self) -> int:
        if self.args.warmup_steps is not None:
            return self.args.warmup_steps
        finite = self.total_steps < float("inf")
        return max(1, round(WARMUP_SHARE * self.total_steps)) if finite else WARMUP_STEPS

    def casts(self) -> bool:
        return False  # the heads bring their f32 weights to the type of the hidden states themselves

    def attending(self) -> torch.nn.Module:
        return self.plain

    def losses(self, pack: Pack, factor: float = 1.0) -> HeadLosses:
        hidden = hidden_states(self.plain, pack, self.attention, self.dtype)
        model = (self.lm_head, self.embeddings)
        return self.parallel.call(hidden, pack, *model, factor, self.meta.fork, not torch.is_grad_enabled())

    def names(self) -> Tuple[str, ...]:
        return sum_names(self.args.heads)

    def means(self, sums: Dict[str, Tuple[float, float]]) -> Dict[str, float]:
        return head_means(sums)

    def write(self) -> None:
        if self.processes.first:
            write_heads(self.model, self.args.out, self.args.base_name or self.args.model)
