"""Supervised fine-tuning: python -m apar_train sft."""

import argparse
from typing import Any, Optional, Sequence, Tuple

import torch
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

from ..data.packing import Pack
from ..data.serial import with_serial_text
from ..data.shards import KINDS, Example
from ..errors import InputError
from ..model.adapter import add_adapter
from ..model.base import NOTHING, fit_vocabulary, open_model
from ..model.loss import Soft, TokenLosses, token_losses
from ..model.output import check_target, write_adapter, write_model
from ..model.teacher import teacher_logits
from ..model.token_rows import begin_rows, forks_already
from .processes import Processes
from .trainer import Trainer, train

LORA_RATE, FULL_RATE, NEW_RATE, TOKEN_FACTOR = 1e-3, 2e-5, 3e-3, 8.0


def run(args: argparse.Namespace) -> bool:
    return train(SupervisedTrainer, args)


class SupervisedTrainer(Trainer):
    """Every weight, or an adapter and the two token rows."""

    SAME = (*Trainer.SAME, "lora", "lora_alpha", "lora_dropout", "token_lr", "token_init", "token_noise", "distillation")

    def __init__(self, args: argparse.Namespace, processes: Processes) -> None:
        if args.token_lr is not None and not args.lora:
            raise InputError("invalid_request", "--token-lr needs --lora: else the two rows are part of the embedding")
        if args.distillation and not args.lora:
            raise InputError("invalid_request", "--distillation needs --lora: the teacher is the model without its adapter")
        check_target(args.out)
        super().__init__(args, processes)

    def open(self) -> Tuple[Any, torch.nn.Module]:
        args = self.args
        # Weights that are trained are kept in f32; frozen ones in the type of the arithmetic.
        model = open_model(args.model, self.build_model, self.dtype if args.lora else torch.float32)
        self.vocab_size = fit_vocabulary(model, self.meta.vocab_size)
        copy = args.token_init == "copy" or (args.token_init == "auto" and args.model != NOTHING and not forks_already(args.model))
        if copy:
            begin_rows(model, self.meta, self.build_model, args.token_noise)
        model.set_attn_implementation(self.attention)
        if args.checkpoint_activations:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        self.adapted = self._adapt(model)
        return model, self.adapted or model

    def _adapt(self, model: Any) -> Any:
        args = self.args
        if not args.lora:
            return None
        alpha = args.lora_alpha or 2 * args.lora
        return add_adapter(model, self.meta, args.lora, alpha, args.lora_dropout, args.base_name or args.model)

    def default_rate(self) -> float:
        return LORA_RATE if self.args.lora else NEW_RATE if self.args.model == NOTHING else FULL_RATE

    def token_factor(self) -> float:
        return TOKEN_FACTOR if self.args.token_lr is None else self.args.token_lr / max(self.rate, 1e-30)

    def casts(self) -> bool:
        # FSDP2 casts by itself; an adapter's base is stored in the type of the arithmetic.
        return super().casts() and not self.args.lora and not self.parallel.sharded

    def pack(self, examples: Sequence[Example]) -> Pack:
        pack = super().pack(examples)
        return with_serial_text(pack, examples, self.meta) if self.args.distillation else pack

    def losses(self, pack: Pack, factor: float = 1.0) -> TokenLosses:
        """Held-out packs have no teacher: their losses are compared with those of any other run."""
        return token_losses(self.parallel.call, pack, self.meta, self.attention, self.dtype, factor, self._soft(pack))

    def _soft(self, pack: Pack) -> Optional[Soft]:
        if pack.serial is None:
            return None
        logits = teacher_logits(self.parallel.call, self.adapted, pack.serial.pack, self.meta, self.attention, self.dtype)
        return Soft(logits, pack.serial.learned_at, self.args.distillation)

    def names(self) -> Tuple[str, ...]:
        return (*KINDS, "fork", "eos")

    def write(self) -> None:
        """The model or adapter folder."""
        options = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=self.adapted is not None, strict=False)
        weights = get_model_state_dict(self.model, options=options)
        if not self.processes.first:
            return
        if self.adapted is None:
            write_model(self.plain, weights, self.args.out, self.build_model)
        else:
            kind = torch.float32 if self.args.adapter_dtype == "float32" else torch.bfloat16
            write_adapter(self.adapted, weights, self.args.out, self.build_model, kind, self.vocab_size)
