"""What every training run shares: processes, data, optimizer, schedule, state on disk, log and interrupt. Under torchrun
several processes share every step's batch, so the number of processes changes nothing that is learned."""

import argparse
import json
import math
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple, Type

import torch
from transformers import PreTrainedModel

from ..arithmetic import dtype_name, dtype_of
from ..data.mixing import Mixture, Shares
from ..data.packing import Pack, Weights, filler, first_fit, nothing, pack_examples
from ..data.shards import KINDS, Example, Shards
from ..data.sizes import check_sizes
from ..errors import InputError
from ..model import attention
from ..model.base import context_of
from ..model.loss import Losses
from ..model.probe import check_attention
from . import state
from .interrupt import Interrupt
from .metrics import Log, means
from .notes import Notes, StepResult, progress_line
from .optimizer import clip, make_optimizer, set_rate
from .processes import Parallel, Processes, join, leave
from .schedule import learning_rate, progress

BUILD_MODEL = "model"
PACK_TOKENS = {"cpu": 1024, "cuda": 16384}


def train(kind: Type["Trainer"], args: argparse.Namespace) -> bool:
    """A run from its beginning, or from its saved state, to its end or to a signal: then False. True for one of several
    processes, whose exit code torchrun would take for a failure."""
    processes = join(args.device, args.threads)
    try:
        trainer = kind(args, processes)
        trainer.begin()
        with Interrupt() as interrupt:
            ended = trainer.loop(interrupt)
        if ended:
            trainer.write()
            if processes.first and trainer.progress() >= 1:
                state.keep_newest(args.run)
        if processes.first:
            trainer.log.close()
        return ended or processes.world > 1
    finally:
        leave()


class Trainer(ABC):
    """A run of one kind: what is trained, its losses, and the folder that it leaves."""

    # Options: a resumed run is the unbroken one only if these are the same.
    SAME: Tuple[str, ...] = (
        *("model", "batch_tokens", "batch_examples", "pack_tokens", "context", "structured_share", "serial_share", "lr"),
        *("warmup_steps", "lr_floor", "weight_decay", "adam_betas", "clip", "fork_weight", "eos_weight", "seed", "dtype"),
    )

    def __init__(self, args: argparse.Namespace, processes: Processes) -> None:
        self.args, self.processes, self.device = args, processes, processes.device
        if not (args.steps or args.epochs or args.minutes):
            raise InputError("invalid_request", "say how long: --steps, --epochs or --minutes")
        self.build_model: Path = args.data / BUILD_MODEL
        self.train = Shards(args.data / "train")
        self.meta = self.train.meta
        self.test = Shards(args.data / "test") if (args.data / "test" / "meta.json").is_file() else None
        check_sizes(self.train, self.test, args)
        torch.manual_seed(args.seed)
        self.attention = attention.choose(args.attention, self.device)
        args.dtype = dtype_name(args.dtype or self._dtype_before(), self.device)
        self.dtype = dtype_of(args.dtype)
        self.plain, self.model = self.open()
        self.room: int = args.pack_tokens or PACK_TOKENS.get(self.device.type, 1024)
        self.context: int = args.context or context_of(self.plain) or self.room
        self.weights = Weights(args.fork_weight, args.eos_weight)
        self.mixture = Mixture(self.train, Shares(args.structured_share, args.serial_share), self.context, self.room, args.seed)
        self.held_out = self._held_out_packs()
        attention.check_windows(self.plain, min(self.context, int(self.train.paths.max())))
        self.model.to(self.device).train()
        self.parallel = Parallel(self.model, self.plain, args.parallel, processes, self.dtype)
        self.rate: float = self.default_rate() if args.lr is None else args.lr
        self.optimizer = make_optimizer(self.model, self.token_factor(), args.weight_decay, args.adam_betas)
        self.total_steps = self._total_steps()
        self.step = 0
        self.seconds = 0.0
        self.tokens = 0

    @abstractmethod
    def open(self) -> Tuple[PreTrainedModel, torch.nn.Module]:
        """The model of transformers, and the module whose trainable parameters are trained. Sets `vocab_size`."""

    @abstractmethod
    def default_rate(self) -> float:
        """Peak of the learning rate."""

    @abstractmethod
    def losses(self, pack: Pack, factor: float = 1.0) -> Losses:
        """Of a pack on the device. Called with autocast as `casts` says."""

    @abstractmethod
    def write(self) -> None:
        """The folder that the run leaves."""

    @abstractmethod
    def names(self) -> Tuple[str, ...]:
        """Of the sums of held-out data: those of every pack are among them."""

    def means(self, sums: Dict[str, Tuple[float, float]]) -> Dict[str, float]:
        """What is logged of (sum, count) by name."""
        return means(sums)

    def casts(self) -> bool:
        """Whether autocast brings f32 weights to the type of the arithmetic."""
        return self.dtype != torch.float32

    def token_factor(self) -> float:
        """The rate of the two token rows of an adapter, as a multiple of the others'."""
        return 1.0

    def warmup_steps(self) -> int:
        return self.args.warmup_steps

    def attending(self) -> torch.nn.Module:
        """What is called for logits when it is checked whether the model attends as told."""
        return self.parallel.call

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
            self._check_same(found, position["options"], position.get("data"))
            state.load(found, self.model, self.optimizer, processes)
            self.step, self.seconds, self.tokens = position["step"], position["seconds"], position["tokens"]
        with self._arithmetic():
            check_attention(self.attending(), self.plain, self.attention, self.device, self.dtype, self.vocab_size)
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

    def _dtype_before(self) -> Optional[str]:
        """Of the run that is resumed: it may have begun on another machine."""
        found = state.newest(self.args.run) if self.args.resume else None
        options: Dict[str, Any] = state.read_position(found)["options"] if found else {}
        return options.get("dtype")

    def _check_same(self, found: Path, before: Dict[str, Any], data: Optional[str]) -> None:
        if data is not None and data != self.train.digest:
            raise InputError("invalid_request", f"{self.args.data}: was built again since the run began: begin another run with --run")
        now = _plain(self.args)
        for name in self.SAME:
            if before.get(name) != now.get(name):
                option = "--" + name.replace("_", "-")
                raise InputError("invalid_request", f"{found}: was made with {option} {before.get(name)}, not {now.get(name)}")

    def _arithmetic(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.casts())

    def progress(self) -> float:
        return progress(self.step, self.total_steps, self.seconds, self.args.minutes or 0)

    def seconds_left(self, notes: Notes, how_far: float) -> float:
        """At the speed of the steps since the last line, and within --minutes."""
        per_step = (self.seconds - notes.seconds) / len(notes.results)
        by_clock = 60 * self.args.minutes - self.seconds if self.args.minutes else math.inf
        return max(0.0, 0.0 if how_far >= 1 else min((self.total_steps - self.step) * per_step, by_clock))

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
                line = notes.line(self.seconds, self.tokens, self.means)
                self.log.write(self.step, **line)
                print(progress_line(self.step, self.total_steps, line, self.seconds_left(notes, how_far)), flush=True)
                notes = Notes(self.seconds, self.tokens)
            begin = time.monotonic()
            if self.held_out and (ends or self.step % args.eval_steps == 0):
                found = self.evaluate()
                if self.processes.first:
                    self.log.write(self.step, **{f"held_out_{name}": value for name, value in self.means(found).items()})
            if due or ends or (args.save_steps and self.step % args.save_steps == 0):
                self.save()
                saved, saved_step = self.seconds, self.step
            self.seconds += time.monotonic() - begin
        if saved_step != self.step:
            self.save()
        return not stop

    def train_step(self, how_far: float) -> StepResult:
        args = self.args
        rate = learning_rate(self.rate, self.step, self.warmup_steps(), how_far, args.lr_floor)
        set_rate(self.optimizer, rate)
        packs, weight = self._packs(self.step)
        # Dropout, too, is a function of the step: a resumed run drops what the unbroken one would.
        torch.manual_seed((args.seed * 1_000_003 + self.step) * 4096 + self.processes.rank)
        loss = torch.zeros((), dtype=torch.float64, device=self.device)
        sums: Dict[str, torch.Tensor] = {}
        for number, pack in enumerate(packs):
            pack = pack.to(self.device)
            with self.parallel.accumulate(last=number == len(packs) - 1), self._arithmetic():
                # Processes' gradients are averaged, so each counts as often as there are processes.
                factor = self.processes.world / weight
                found = self.losses(pack, factor)
                found.total.backward()
            loss += found.weighted_sum().double()
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
        packs = [self.pack([self.train[index] for index in indices]) for indices in drawn]
        self.tokens += sum(map(len, packs))
        weight = float(sum(pack.weights.sum() for pack in packs))
        packs += [self.pack([nothing(self.meta)])] * (-len(packs) % world)
        return packs[self.processes.rank :: world], max(weight, 1e-9)

    def pack(self, examples: Sequence[Example]) -> Pack:
        """To learn from."""
        return pack_examples(examples, self.meta, self.weights)

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
                found = self.losses(pack.to(self.device))
            for name, pair in found.sums(self.meta).items():
                sums[name] = sums[name] + pair if name in sums else pair
        self.model.train()
        names = self.names()
        nothing = torch.zeros(2, dtype=torch.float64, device=self.device)
        totals = self.processes.sum(torch.cat([sums.get(name, nothing) for name in names])).tolist()
        return {name: (totals[2 * at], totals[2 * at + 1]) for at, name in enumerate(names)}

    def save(self) -> None:
        position = {"step": self.step, "seconds": self.seconds, "tokens": self.tokens, "options": _plain(self.args),
                    "data": self.train.digest}  # fmt: skip
        state.save(self.args.run, self.model, self.optimizer, position, self.processes)


def packs_of(shards: Shards, indices: List[int], room: int, meta: Any) -> List[Pack]:
    packs = first_fit(shards.tokens[indices].tolist(), room)
    return [pack_examples([shards[indices[at]] for at in pack], meta, Weights()) for pack in packs]


def _plain(args: argparse.Namespace) -> Dict[str, Any]:
    """The options as JSON keeps them."""
    return json.loads(json.dumps(vars(args), default=str))


def _finite(value: float) -> Optional[int]:
    return None if math.isinf(value) else int(value)
