"""Losses of a model on a build: python -m apar_train evaluate-loss.

Per kind: mean cross-entropy (nats per token) and perplexity. And the text of branches: its loss given the branch's path,
beside the loss of the very same tokens in the serial copy of the conversation, where everything before them is seen.
Without markers, for a base: what its text loses only because a branch does not see the details before it.
"""

import argparse
import json
import math
from pathlib import Path
from typing import Dict, Iterator, List, Optional, Sequence, Tuple

import numpy as np
import torch

from ..arithmetic import dtype_name, dtype_of
from ..data.packing import Weights, first_fit, pack_examples
from ..data.serial import without_tokens
from ..data.shards import KINDS, SERIAL, STRUCTURED, Example, Meta, Shards
from ..data.sizes import check_any
from ..model import attention
from ..model.adapter import compute_less, open_adapter
from ..model.base import context_of, fit_vocabulary, open_model
from ..model.loss import token_losses
from ..model.probe import check_attention
from .metrics import means
from .processes import join
from .trainer import BUILD_MODEL, PACK_TOKENS


def run(args: argparse.Namespace) -> bool:
    show(evaluate(args), args.out)
    return True


def show(found: Dict[str, object], out: Optional[Path]) -> None:
    """Prints what was found as JSON, and writes it to a file where there is to be one."""
    text = json.dumps(found, indent=2) + "\n"
    print(text, end="")
    if out:
        part = out.with_name(out.name + ".part")
        part.write_text(text)
        part.replace(out)


@torch.no_grad()
def evaluate(args: argparse.Namespace) -> Dict[str, object]:
    device = join(args.device, args.threads).device
    shards = Shards(args.data / args.split)
    check_any(shards)
    meta = shards.meta
    dtype = dtype_of(dtype_name(args.dtype, device))
    kind = attention.choose(args.attention, device)
    plain = open_model(args.model, args.data / BUILD_MODEL, dtype)
    vocab_size = fit_vocabulary(plain, meta.vocab_size)
    plain.set_attn_implementation(kind)
    model: torch.nn.Module = plain
    if args.adapter:
        model = open_adapter(plain, args.adapter)
        compute_less(model)
    model.to(device).eval()
    check_attention(model, plain, kind, device, dtype, vocab_size)

    room = args.pack_tokens or PACK_TOKENS.get(device.type, 1024)
    context = args.context or context_of(plain) or room
    chosen = choose(shards, context, room, args.examples)
    left_out = (meta.fork, meta.child) if args.without_markers else ()
    losses: Dict[int, np.ndarray] = {}
    for indices in first_fit(shards.tokens[chosen].tolist(), room):
        examples = [shards[chosen[at]] for at in indices]
        read = [without_tokens(example, left_out) for example in examples]
        pack = pack_examples(read, meta, Weights()).to(device)
        values = token_losses(model, pack, meta, kind, dtype).losses.cpu().numpy()
        at = 0
        for index, example, part in zip(indices, examples, read):
            count = int(part.learned.sum())
            losses[chosen[index]] = of_learned(example, values[at : at + count], left_out)
            at += count
    return {"examples": len(chosen), "of": len(shards), **by_kind(shards, losses, left_out), "branch_text": branch_text(shards, losses)}


def of_learned(example: Example, losses: np.ndarray, left_out: Sequence[int]) -> np.ndarray:
    """float [L]: the loss of each learned token; 0 of those that were left out."""
    read = ~np.isin(example.ids[example.learned], left_out)
    values = np.zeros(len(read), dtype=losses.dtype)
    values[read] = losses
    return values


def choose(shards: Shards, context: int, room: int, most: int) -> List[int]:
    """Structured conversations and their serial copies together, so that both can be compared."""
    fits = (shards.paths <= context) & (shards.tokens <= room)
    chosen: List[int] = []
    for kind in range(len(KINDS)):
        of_kind = np.flatnonzero(fits & (shards.kinds == kind))
        if most and len(of_kind) > most:
            sources = np.unique(shards.sources[of_kind])
            kept = np.random.default_rng(0).permutation(sources)[:most]
            of_kind = of_kind[np.isin(shards.sources[of_kind], kept)]
        chosen += of_kind.tolist()
    return chosen


def by_kind(shards: Shards, losses: Dict[int, np.ndarray], left_out: Sequence[int]) -> Dict[str, float]:
    meta = shards.meta
    sums: Dict[str, Tuple[float, float]] = {}

    def add(name: str, values: np.ndarray) -> None:
        total, count = sums.get(name, (0.0, 0.0))
        sums[name] = (total + float(values.sum(dtype=np.float64)), count + len(values))

    for index, values in losses.items():
        example = shards[index]
        targets = example.ids[example.learned]
        read = ~np.isin(targets, left_out)
        targets, values = targets[read], values[read]
        add(KINDS[example.kind], values)
        add("fork", values[targets == meta.fork])
        add("eos", values[np.isin(targets, meta.eos)])
    found = means(sums)
    return {**found, **{name.replace("loss", "perplexity"): round(math.exp(value), 4) for name, value in found.items()}}


def branch_text(shards: Shards, losses: Dict[int, np.ndarray]) -> Optional[Dict[str, float]]:
    """Of the tokens of branches that the serial copy has too; markers and ends are not among them."""
    serial = {int(shards.sources[index]): index for index in losses if shards.kinds[index] == SERIAL}
    here = there = 0.0
    count = wanted = 0
    for index, values in losses.items():
        other = serial.get(int(shards.sources[index]))
        if shards.kinds[index] != STRUCTURED or other is None:
            continue
        example, copy = shards[index], shards[other]
        loss_at, copy_loss_at = spread(example, values), spread(copy, losses[other])
        cursor = 0
        for positions in branches(example, shards.meta):
            wanted += len(positions)
            found = find(copy.ids, example.ids[positions], cursor)
            if found is None:
                continue
            count += len(positions)
            here += float(loss_at[positions].sum())
            there += float(copy_loss_at[found : found + len(positions)].sum())
            cursor = found + len(positions)
    if count == 0:
        return None
    return {"loss": round(here / count, 4), "serial_loss": round(there / count, 4), "ratio": round(here / there, 4),
            "tokens": count, "share_compared": round(count / wanted, 4)}  # fmt: skip


def spread(example: Example, losses: np.ndarray) -> np.ndarray:
    """The losses at their tokens; 0 where nothing is learned."""
    values = np.zeros(len(example), dtype=np.float64)
    values[example.learned] = losses
    return values


def branches(example: Example, meta: Meta) -> Iterator[np.ndarray]:
    """Positions of the text of each branch up to its end or first fork. Its first token is left out: at a joint, serial
    text may be divided into other tokens."""
    for begin, end in zip(example.starts[:-1].tolist(), example.starts[1:].tolist()):
        if example.ids[begin] == meta.child:
            positions = np.arange(begin + 2, end)
            special = np.isin(example.ids[positions], [meta.fork, *meta.eos])
            text = positions[example.learned[positions] & ~special]
            if len(text):
                yield text


def find(ids: np.ndarray, wanted: np.ndarray, begin: int) -> Optional[int]:
    """Where `wanted` lies in ids[begin:], the first time."""
    for at in (np.flatnonzero(ids[begin:] == wanted[0]) + begin).tolist():
        if np.array_equal(ids[at : at + len(wanted)], wanted):
            return at
    return None
