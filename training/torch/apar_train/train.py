"""Trains a model on token shards: python3 -m apar_train.train --data work --out models/demo --run work/run

Every epoch sees each conversation of DATA/train once and a random share of the serial answers of DATA/serial (and of EXTRA). Writes to
RUN: log.jsonl (one line per --log-every steps and per evaluation) and state.pt (for --resume); to OUT: the checkpoint.
"""

import argparse
import json
import random
import time
from pathlib import Path
from typing import Dict, Iterator, List

import torch

from . import checkpoint
from .loss import weighted_loss
from .model import Config, LlamaForCausalLM, count_parameters
from .packing import Trie, build_trie, pack
from .schedule import learning_rate, progress
from .shards import read_conversations, read_meta


# Held-out conversations judged after every epoch; all of them would cost a tenth of the time. `evaluate` takes all.
HELD_OUT_SAMPLE = 100


def parse_arguments(argv: List[str] = None) -> argparse.Namespace:
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--data", type=Path, required=True, help="folder made by `apar data build`")
    p.add_argument("--out", type=Path, required=True, help="model folder to write")
    p.add_argument("--run", type=Path, required=True, help="folder for log.jsonl and state.pt")
    p.add_argument("--resume", action="store_true", help="go on from RUN/state.pt")
    p.add_argument("--init", type=Path, help="model folder to start from; its config.json gives the shape")
    p.add_argument("--epochs", type=float, default=24)
    p.add_argument("--minutes", type=float, default=0, help="end after this long at the latest; 0: no limit")
    p.add_argument("--stop-step", type=int, default=0, help="stop and save after this step, in the middle of the schedule")
    p.add_argument("--batch-tokens", type=int, default=3000, help="tokens (trie nodes) per step")
    p.add_argument("--lr", type=float, default=3e-3)
    p.add_argument("--warmup-steps", type=int, default=100)
    p.add_argument("--weight-decay", type=float, default=0.01)
    p.add_argument("--clip", type=float, default=1.0, help="largest gradient norm")
    p.add_argument("--serial-share", type=float, default=0.05, help="share of the serial answers seen per epoch")
    p.add_argument("--extra", type=Path, help="folder of shards of which every epoch sees a share: breadth, not memory")
    p.add_argument("--extra-share", type=float, default=0.1)
    p.add_argument("--hidden-size", type=int, default=256)
    p.add_argument("--intermediate-size", type=int, default=608)
    p.add_argument("--layers", type=int, default=4)
    p.add_argument("--heads", type=int, default=4)
    p.add_argument("--kv-heads", type=int, default=2)
    p.add_argument("--head-dim", type=int, default=64)
    p.add_argument("--context", type=int, default=1024)
    p.add_argument("--untied", action="store_true", help="an output matrix of its own")
    p.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    p.add_argument("--float32", action="store_true", help="no bf16 autocast")
    p.add_argument("--threads", type=int, default=0)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--log-every", type=int, default=20)
    p.add_argument("--save-minutes", type=float, default=5)
    return p.parse_args(argv)


def batches(tries: List[Trie], batch_tokens: int, rng: random.Random) -> Iterator[List[Trie]]:
    order = list(tries)
    rng.shuffle(order)
    chosen: List[Trie] = []
    for trie in order:
        chosen.append(trie)
        if sum(map(len, chosen)) >= batch_tokens:
            yield chosen
            chosen = []
    if chosen:
        yield chosen


def check_same_vocabulary(meta: Dict, other: Dict) -> None:
    for key in ("vocab_size", "bos", "eos", "fork", "child"):
        if meta[key] != other[key]:
            raise SystemExit(f"--extra was made with another tokenizer: {key} is {other[key]}, not {meta[key]}")


class Run:
    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        if args.threads:
            torch.set_num_threads(args.threads)
        torch.manual_seed(args.seed)
        self.device = torch.device(args.device)
        self.meta = read_meta(args.data / "train")
        self.train, self.test = ([build_trie(rows) for rows in read_conversations(args.data / name)] for name in ("train", "test"))
        # Serial decoding bans [Fork], so its answers are learned under that ban.
        self.serial = [build_trie(rows, self.meta["fork"]) for rows in read_conversations(args.data / "serial")]
        self.extra: List[Trie] = []
        if args.extra:
            check_same_vocabulary(self.meta, read_meta(args.extra))
            self.extra = [build_trie(rows) for rows in read_conversations(args.extra)]
        self.model = self.new_model().to(self.device)
        matrices = [p for p in self.model.parameters() if p.dim() > 1]
        vectors = [p for p in self.model.parameters() if p.dim() == 1]
        groups = [{"params": matrices, "weight_decay": args.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=args.lr, betas=(0.9, 0.98), eps=1e-8)
        nodes = sum(map(len, self.train)) + args.serial_share * sum(map(len, self.serial))
        nodes += args.extra_share * sum(map(len, self.extra))
        self.total_steps = max(1, int(args.epochs * nodes / args.batch_tokens))
        self.step = 0
        self.epoch = 0
        self.seconds = 0.0
        args.run.mkdir(parents=True, exist_ok=True)
        if args.resume:
            self.restore()

    def new_model(self) -> LlamaForCausalLM:
        args = self.args
        if args.init:
            model = checkpoint.load(args.init)
            if model.config.vocab_size != self.meta["vocab_size"]:
                raise SystemExit(f"--init has {model.config.vocab_size} tokens, the data {self.meta['vocab_size']}")
            return model.train()
        config = Config(
            vocab_size=self.meta["vocab_size"],
            hidden_size=args.hidden_size,
            intermediate_size=args.intermediate_size,
            num_hidden_layers=args.layers,
            num_attention_heads=args.heads,
            num_key_value_heads=args.kv_heads,
            head_dim=args.head_dim,
            max_position_embeddings=args.context,
            tie_word_embeddings=not args.untied,
        )
        return LlamaForCausalLM(config)

    def restore(self) -> None:
        state = torch.load(self.args.run / "state.pt", map_location=self.device)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.epoch, self.seconds = state["step"], state["epoch"], state["seconds"]

    def save(self) -> None:
        state = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}
        state.update(step=self.step, epoch=self.epoch, seconds=self.seconds)
        torch.save(state, self.args.run / "state.tmp")
        (self.args.run / "state.tmp").replace(self.args.run / "state.pt")
        checkpoint.export(self.model, self.args.out, self.args.data, self.meta["bos"], self.meta["eos"])

    def log(self, **entry: object) -> None:
        entry = {"step": self.step, "epoch": self.epoch, "seconds": round(self.seconds, 1), **entry}
        with open(self.args.run / "log.jsonl", "a") as file:
            file.write(json.dumps(entry) + "\n")

    def progress(self) -> float:
        return progress(self.step, self.total_steps, self.seconds, self.args.minutes)

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=not self.args.float32)

    def train_step(self, tries: List[Trie]) -> float:
        rate = learning_rate(self.args.lr, self.step, self.args.warmup_steps, self.progress())
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        batch = pack(tries).to(self.device)
        with self.autocast():
            total, weight = weighted_loss(self.model, batch)
        (total / weight).backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.args.clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        return float(total.detach() / weight)

    @torch.no_grad()
    def held_out_loss(self) -> float:
        total = weight = 0.0
        rng = random.Random(0)
        sample = rng.sample(self.test, min(HELD_OUT_SAMPLE, len(self.test)))
        for tries in batches(sample, self.args.batch_tokens, rng):
            with self.autocast():
                loss, count = weighted_loss(self.model, pack(tries).to(self.device))
            total, weight = total + float(loss), weight + float(count)
        return total / max(1.0, weight)

    def epoch_tries(self) -> List[Trie]:
        rng = random.Random(f"{self.args.seed}:{self.epoch}")
        serial = rng.sample(self.serial, int(len(self.serial) * self.args.serial_share))
        return self.train + serial + rng.sample(self.extra, int(len(self.extra) * self.args.extra_share))

    def over(self) -> bool:
        return self.progress() >= 1 or (self.args.stop_step > 0 and self.step >= self.args.stop_step)

    def loop(self) -> None:
        recent: List[float] = []
        saved = self.seconds
        tokens = 0
        mark = self.seconds
        while not self.over():
            rng = random.Random(f"{self.args.seed}:{self.epoch}:order")
            for tries in batches(self.epoch_tries(), self.args.batch_tokens, rng):
                begin = time.monotonic()
                recent.append(self.train_step(tries))
                tokens += sum(map(len, tries))
                self.seconds += time.monotonic() - begin
                if self.step % self.args.log_every == 0:
                    rate = tokens / max(1e-9, self.seconds - mark)
                    self.log(loss=round(sum(recent) / len(recent), 4), tokens_per_s=round(rate), progress=round(self.progress(), 4))
                    recent, tokens, mark = [], 0, self.seconds
                if self.seconds - saved > 60 * self.args.save_minutes:
                    self.save()
                    saved = self.seconds
                if self.over():
                    break
            else:
                self.epoch += 1
            if self.test:
                self.log(held_out_loss=round(self.held_out_loss(), 4))
        self.save()


def main() -> None:
    args = parse_arguments()
    run = Run(args)
    print(f"{count_parameters(run.model):,} parameters, {len(run.train):,} conversations, {run.total_steps:,} steps", flush=True)
    run.log(parameters=count_parameters(run.model), arguments={k: str(v) for k, v in vars(args).items()})
    run.loop()


if __name__ == "__main__":
    main()
