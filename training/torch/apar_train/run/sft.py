"""Supervised fine-tuning: python -m apar_train sft. Under torchrun several processes share every step's batch, so the
number of processes changes nothing that is learned."""

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import torch
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

from ..data.mixing import Mixture, Shares
from ..data.packing import Pack, Weights, filler, first_fit, pack_examples
from ..data.shards import KINDS, Shards
from ..errors import InputError
from ..model import attention
from ..model.adapter import add_adapter
from ..model.base import NOTHING, context_of, fit_vocabulary, open_model
from ..model.loss import token_losses
from ..model.output import write_adapter, write_model
from ..model.probe import check_attention
from ..model.token_rows import begin_rows, forks_already
from . import state
from .interrupt import Interrupt
from .metrics import Log, means
from .optimizer import clip, make_optimizer, set_rate
from .processes import Parallel, Processes, join, leave
from .schedule import learning_rate, progress

BUILD_MODEL = "model"
LOSSES = (*KINDS, "fork", "eos")
LORA_RATE, FULL_RATE, NEW_RATE, TOKEN_FACTOR = 1e-3, 2e-5, 3e-3, 8.0
PACK_TOKENS = {"cpu": 1024, "cuda": 16384}
# A resumed run is the unbroken one only if these are the same.
SAME = (
    *("model", "lora", "lora_alpha", "lora_dropout", "batch_tokens", "batch_examples", "pack_tokens", "context", "structured_share"),
    *("serial_share", "lr", "token_lr", "warmup_steps", "lr_floor", "weight_decay", "adam_betas", "clip", "fork_weight"),
    *("eos_weight", "seed", "dtype", "token_init", "token_noise"),
)


def run(args: argparse.Namespace) -> None:
    processes = join(args.device, args.threads)
    try:
        trainer = Trainer(args, processes)
        trainer.begin()
        with Interrupt() as interrupt:
            ended = trainer.loop(interrupt)
        if ended:
            trainer.write()
        if processes.first:
            trainer.log.close()
    finally:
        leave()


class Trainer:
    def __init__(self, args: argparse.Namespace, processes: Processes) -> None:
        self.args, self.processes, self.device = args, processes, processes.device
        if not (args.steps or args.epochs or args.minutes):
            raise InputError("invalid_request", "say how long: --steps, --epochs or --minutes")
        if args.token_lr is not None and not args.lora:
            raise InputError("invalid_request", "--token-lr needs --lora: else the two rows are part of the embedding")
        self.build_model: Path = args.data / BUILD_MODEL
        self.train = Shards(args.data / "train")
        self.meta = self.train.meta
        self.test = Shards(args.data / "test") if (args.data / "test" / "meta.json").is_file() else None
        torch.manual_seed(args.seed)
        self.attention = attention.choose(args.attention, self.device)
        self.dtype = torch.float32 if args.dtype == "float32" else torch.bfloat16
        self.plain = self._open()
        self.adapted = self._adapt()
        self.room: int = args.pack_tokens or PACK_TOKENS.get(self.device.type, 1024)
        self.context: int = args.context or context_of(self.plain) or self.room
        self.weights = Weights(args.fork_weight, args.eos_weight)
        self.mixture = Mixture(self.train, Shares(args.structured_share, args.serial_share), self.context, self.room, args.seed)
        self.held_out = self._held_out_packs()
        attention.check_windows(self.plain, min(self.context, int(self.train.paths.max())))
        self.model: torch.nn.Module = self.adapted or self.plain
        self.model.to(self.device).train()
        # FSDP2 casts by itself; an adapter's base is stored in the type of the arithmetic.
        self.parallel = Parallel(self.model, self.plain, args.parallel, processes, self.dtype)
        self.cast = self.dtype != torch.float32 and not args.lora and not self.parallel.sharded
        self.rate = args.lr or (LORA_RATE if args.lora else NEW_RATE if args.model == NOTHING else FULL_RATE)
        factor = TOKEN_FACTOR if args.token_lr is None else args.token_lr / self.rate
        self.optimizer = make_optimizer(self.model, factor, args.weight_decay, args.adam_betas)
        self.total_steps = self._total_steps()
        self.step = 0
        self.seconds = 0.0
        self.tokens = 0

    def _open(self) -> Any:
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
        return model

    def _adapt(self) -> Any:
        args = self.args
        if not args.lora:
            return None
        alpha = args.lora_alpha or 2 * args.lora
        return add_adapter(self.plain, self.meta, args.lora, alpha, args.lora_dropout, args.base_name or args.model)

    def _total_steps(self) -> float:
        """Infinite when only the clock ends the run."""
        args = self.args
        if args.steps:
            return args.steps
        if not args.epochs:
            return math.inf
        per_step = args.batch_examples * self.mixture.mean_tokens() if args.batch_examples else args.batch_tokens
        return max(1, math.ceil(args.epochs * self.mixture.total_tokens() / per_step))

    def begin(self) -> None:
        """From nothing, or from the state of RUN; writes the first line of the log."""
        args, processes = self.args, self.processes
        if processes.first:
            args.run.mkdir(parents=True, exist_ok=True)
        processes.wait()
        found = state.newest(args.run)
        if found and not args.resume:
            raise InputError("invalid_request", f"{found}: a run was begun here: --resume, or another --run")
        if found:
            position = state.read_position(found)
            self._check_same(found, position["options"])
            state.load(found, self.model, self.optimizer, processes)
            self.step, self.seconds, self.tokens = position["step"], position["seconds"], position["tokens"]
        with self._arithmetic():
            check_attention(self.parallel.call, self.plain, self.attention, self.device, self.dtype, self.vocab_size)
        if processes.first:
            self.log = Log(args.run, self.step, args.tensorboard)
            trained = sum(p.numel() for p in self.model.parameters() if p.requires_grad)
            whole = sum(p.numel() for p in self.plain.parameters())
            self.log.write(self.step, event="resumed" if found else "begun", parameters=whole, trained=trained,
                           examples=len(self.train), left_out=self.mixture.left_out, steps=_finite(self.total_steps),
                           processes=processes.world, device=str(self.device), torch=torch.__version__, attention=self.attention,
                           context=self.context, pack_tokens=self.room, rate=self.rate, options=_plain(args))  # fmt: skip
            print(f"{whole:,} parameters, {trained:,} trained; {len(self.train):,} examples ({self.mixture.left_out:,} do not fit); "
                  f"{_finite(self.total_steps) or 'as many as fit'} steps", flush=True)  # fmt: skip

    def _check_same(self, found: Path, before: Dict[str, Any]) -> None:
        now = _plain(self.args)
        for name in SAME:
            if before.get(name) != now.get(name):
                option = "--" + name.replace("_", "-")
                raise InputError("invalid_request", f"{found}: was made with {option} {before.get(name)}, not {now.get(name)}")

    def _arithmetic(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.cast)

    def progress(self) -> float:
        return progress(self.step, self.total_steps, self.seconds, self.args.minutes or 0)

    def loop(self, interrupt: Interrupt) -> bool:
        """Steps until the run is over; False if it was interrupted before."""
        args = self.args
        notes = Notes(self.seconds, self.tokens)
        saved, saved_step = self.seconds, self.step
        how_far, stop = self.processes.agree(self.progress(), interrupt.asked)
        while how_far < 1 and not stop and not (args.stop_step and self.step >= args.stop_step):
            begin = time.monotonic()
            notes.add(self.train_step(how_far))
            self.seconds += time.monotonic() - begin
            due = self.seconds - saved > 60 * args.save_minutes
            how_far, stop, due = self.processes.agree(self.progress(), interrupt.asked, due)
            ends = how_far >= 1
            if self.processes.first and (ends or self.step % args.log_steps == 0):
                self.log.write(self.step, **notes.line(self.seconds, self.tokens))
                notes = Notes(self.seconds, self.tokens)
            begin = time.monotonic()
            if self.held_out and (ends or self.step % args.eval_steps == 0):
                found = self.evaluate()
                if self.processes.first:
                    self.log.write(self.step, **{f"held_out_{name}": value for name, value in means(found).items()})
            if due or ends or (args.save_steps and self.step % args.save_steps == 0):
                self.save()
                saved, saved_step = self.seconds, self.step
            self.seconds += time.monotonic() - begin
        if saved_step != self.step:
            self.save()
        return not stop

    def train_step(self, how_far: float) -> "StepResult":
        args = self.args
        rate = learning_rate(self.rate, self.step, args.warmup_steps, how_far, args.lr_floor)
        set_rate(self.optimizer, rate)
        packs, weight = self._packs(self.step)
        # Dropout, too, is a function of the step: a resumed run drops what the unbroken one would.
        torch.manual_seed((args.seed * 1_000_003 + self.step) * 4096 + self.processes.rank)
        loss = torch.zeros((), dtype=torch.float64, device=self.device)
        sums: Dict[str, torch.Tensor] = {}
        for number, pack in enumerate(packs):
            pack = pack.to(self.device)
            with self.parallel.accumulate(last=number == len(packs) - 1), self._arithmetic():
                found = token_losses(self.parallel.call, pack, self.meta, self.attention, self.dtype)
                total = found.weighted_sum()
                # Processes' gradients are averaged, so each counts as often as there are processes.
                (total * (self.processes.world / weight)).backward()
            loss += total.detach().double()
            for name, pair in found.sums(self.meta).items():
                sums[name] = sums[name] + pair if name in sums else pair
        norm = clip(self.model, args.clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        totals = self.processes.sum(torch.cat([loss[None], *sums.values()])).tolist()
        parts = {name: (totals[1 + 2 * at], totals[2 + 2 * at]) for at, name in enumerate(sums)}
        return StepResult(totals[0] / weight, parts, rate, norm)

    def _packs(self, step: int) -> Tuple[List[Pack], float]:
        """This process's packs of a step, and the weight of all processes' learned tokens. Every process draws the whole
        batch and takes its share; each gets the same number of packs, because they exchange gradients at each one."""
        args, world = self.args, self.processes.world
        drawn = self.mixture.draw(step, args.batch_tokens, args.batch_examples)
        packs = [pack_examples([self.train[index] for index in indices], self.meta, self.weights) for indices in drawn]
        self.tokens += sum(map(len, packs))
        weight = float(sum(pack.weights.sum() for pack in packs))
        packs += [filler(self.meta)] * (-len(packs) % world)
        return packs[self.processes.rank :: world], max(weight, 1e-9)

    def _held_out_packs(self) -> List[Pack]:
        if self.test is None or len(self.test) == 0 or self.args.eval_examples == 0:
            return []
        mixture = Mixture(self.test, Shares(0.5, 0.1), self.context, self.room, 0)
        indices = [i for kind in range(len(KINDS)) for i in mixture.sample(kind, self.args.eval_examples)]
        return packs_of(self.test, indices, self.room, self.meta)

    @torch.no_grad()
    def evaluate(self) -> Dict[str, Tuple[float, float]]:
        """(sum, count) of the held-out losses by name. Processes share the packs."""
        world = self.processes.world
        packs = self.held_out + [filler(self.meta)] * (-len(self.held_out) % world)
        self.model.eval()
        sums: Dict[str, torch.Tensor] = {}
        for pack in packs[self.processes.rank :: world]:
            with self._arithmetic():
                found = token_losses(self.parallel.call, pack.to(self.device), self.meta, self.attention, self.dtype)
            for name, pair in found.sums(self.meta).items():
                sums[name] = sums[name] + pair if name in sums else pair
        self.model.train()
        nothing = torch.zeros(2, dtype=torch.float64, device=self.device)
        totals = self.processes.sum(torch.cat([sums.get(name, nothing) for name in LOSSES])).tolist()
        return {name: (totals[2 * at], totals[2 * at + 1]) for at, name in enumerate(LOSSES)}

    def save(self) -> None:
        position = {"step": self.step, "seconds": self.seconds, "tokens": self.tokens, "options": _plain(self.args)}
        state.save(self.args.run, self.model, self.optimizer, position, self.processes)

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


class StepResult:
    def __init__(self, loss: float, parts: Dict[str, Tuple[float, float]], rate: float, norm: float) -> None:
        self.loss, self.parts, self.rate, self.norm = loss, parts, rate, norm


class Notes:
    """What has happened since the last line of the log."""

    def __init__(self, seconds: float, tokens: int) -> None:
        self.seconds, self.tokens = seconds, tokens
        self.results: List[StepResult] = []

    def add(self, result: StepResult) -> None:
        self.results.append(result)

    def line(self, seconds: float, tokens: int) -> Dict[str, Any]:
        sums: Dict[str, Tuple[float, float]] = {}
        for result in self.results:
            for name, (total, count) in result.parts.items():
                before = sums.get(name, (0.0, 0.0))
                sums[name] = (before[0] + total, before[1] + count)
        last = self.results[-1]
        return {
            # Weighted as in training; those by name are plain means.
            "weighted_loss": round(sum(result.loss for result in self.results) / len(self.results), 4),
            **means(sums),
            "lr": float(f"{last.rate:.4g}"),
            "grad_norm": round(max(result.norm for result in self.results), 4),
            "tokens": tokens,
            "tokens_per_s": round((tokens - self.tokens) / max(1e-9, seconds - self.seconds)),
            "seconds": round(seconds, 1),
        }


def packs_of(shards: Shards, indices: List[int], room: int, meta: Any) -> List[Pack]:
    packs = first_fit(shards.tokens[indices].tolist(), room)
    return [pack_examples([shards[indices[at]] for at in pack], meta, Weights()) for pack in packs]


def _plain(args: argparse.Namespace) -> Dict[str, Any]:
    """The options as JSON keeps them."""
    return json.loads(json.dumps(vars(args), default=str))


def _finite(value: float) -> Optional[int]:
    return None if math.isinf(value) else int(value)
