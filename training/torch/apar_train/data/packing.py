"""Packs of examples, so that a shared prefix is computed once.

An example is a tree of segments. All its tokens lie in one line; a token's position is its depth, and it attends to its
ancestors only. So its hidden state is what it is in a row of its own, and loss and gradient equal those of the separate
rows (tests/test_exactness.py). Examples of a pack do not attend to each other.
"""

from dataclasses import dataclass, replace
from typing import List, Optional, Sequence, Tuple

import numpy as np
import torch

from .shards import SERIAL, UNSTRUCTURED, Example, Meta


@dataclass(frozen=True)
class Weights:
    """Of targets in the training loss."""

    fork: float = 1.0
    eos: float = 1.0


@dataclass
class Pack:
    """N tokens in a line, and the M that are learned. `segments` are numbered over the whole pack."""

    ids: torch.Tensor  # [N]
    positions: torch.Tensor  # [N]
    before: torch.Tensor  # [N]: the token before each on its path; -1: none
    segments: torch.Tensor  # [N]: the segment of each token
    ancestors: torch.Tensor  # bool [S, S]: ancestors[s, t] when t is s or above it
    spans: List[Tuple[int, int]]  # tokens of each example: from, to
    sources: torch.Tensor  # [M]: the token whose logits are judged
    targets: torch.Tensor  # [M]: the id that should follow it
    weights: torch.Tensor  # f32 [M]
    banned: torch.Tensor  # bool [M]: [Fork] cannot be chosen here
    kinds: torch.Tensor  # [M]
    serial: Optional["SerialText"] = None

    def __len__(self) -> int:
        return len(self.ids)

    def to(self, device: torch.device) -> "Pack":
        moved = {name: value.to(device, non_blocking=True) for name, value in vars(self).items() if torch.is_tensor(value)}
        return replace(self, **moved, serial=self.serial and self.serial.to(device))

    def mask(self, begin: int = 0, end: int = -1) -> torch.Tensor:
        """bool [n, n] for the tokens begin..end: whether i (row) attends to j: not after it, and of a segment above."""
        end = len(self.ids) if end < 0 else end
        segments = self.segments[begin:end]
        return self.ancestors[segments[:, None], segments[None, :]].tril_()


@dataclass
class SerialText:
    """The examples of a pack as plain texts, and where the pack learns them."""

    pack: Pack  # its K targets are those of `learned_at`, in order
    learned_at: torch.Tensor  # bool [M], K of them

    def to(self, device: torch.device) -> "SerialText":
        return SerialText(self.pack.to(device), self.learned_at.to(device, non_blocking=True))


def pack_examples(examples: Sequence[Example], meta: Meta, weights: Weights) -> Pack:
    lengths = [len(example) for example in examples]
    offsets = np.cumsum([0, *lengths])
    counts = [len(example.parents) for example in examples]
    parts = [_Part(example, meta, weights, offset) for example, offset in zip(examples, offsets.tolist())]
    segments = [
        np.repeat(np.arange(count) + first, np.diff(example.starts))
        for example, count, first in zip(examples, counts, np.cumsum([0, *counts]).tolist())
    ]

    def joined(arrays: Sequence[np.ndarray], dtype: torch.dtype = torch.int64) -> torch.Tensor:
        return torch.from_numpy(np.concatenate(arrays)).to(dtype)

    return Pack(
        ids=joined([example.ids for example in examples]),
        positions=joined([example.depths() for example in examples]),
        before=joined([part.before for part in parts]),
        segments=joined(segments),
        ancestors=_ancestors(_parents(examples, counts)),
        spans=list(zip(offsets[:-1].tolist(), offsets[1:].tolist())),
        sources=joined([part.sources for part in parts]),
        targets=joined([part.targets for part in parts]),
        weights=joined([part.weights for part in parts], torch.float32),
        banned=joined([np.full(len(part.targets), part.kind == SERIAL) for part in parts], torch.bool),
        kinds=joined([np.full(len(part.targets), part.kind) for part in parts]),
    )


def filler(meta: Meta) -> Pack:
    """A pack of which nothing is learned."""
    return pack_examples([nothing(meta)], meta, Weights())


def nothing(meta: Meta) -> Example:
    """For a process that has no pack left in a step."""
    return Example(np.full(2, meta.fork), np.zeros(2, dtype=bool), np.array([0, 2]), np.array([-1]), UNSTRUCTURED)


def first_fit(lengths: Sequence[int], room: int) -> List[List[int]]:
    """Indices in packs of at most `room` tokens, the longest first. What is longer than that gets a pack of its own."""
    packs: List[List[int]] = []
    free: List[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        for number, left in enumerate(free):
            if lengths[index] <= left:
                packs[number].append(index)
                free[number] -= lengths[index]
                break
        else:
            packs.append([index])
            free.append(room - lengths[index])
    return packs


class _Part:
    """One example and its learned tokens; places are counted from the pack's first token."""

    def __init__(self, example: Example, meta: Meta, weights: Weights, offset: int) -> None:
        learned = np.flatnonzero(example.learned)
        before = np.arange(len(example)) - 1
        # Before the first token of a segment comes the last of its parent.
        before[example.starts[:-1]] = np.where(example.parents >= 0, example.starts[1:][example.parents] - 1, -1)
        self.kind = example.kind
        self.before = np.where(before >= 0, before + offset, -1)
        self.sources = before[learned] + offset
        self.targets = example.ids[learned]
        self.weights = np.ones(len(learned))
        self.weights[self.targets == meta.fork] = weights.fork
        self.weights[np.isin(self.targets, meta.eos)] = weights.eos


def _parents(examples: Sequence[Example], counts: Sequence[int]) -> np.ndarray:
    """Parents, numbered over the whole pack."""
    firsts = np.cumsum([0, *counts])[:-1]
    return np.concatenate([np.where(e.parents >= 0, e.parents + first, -1) for e, first in zip(examples, firsts)])


def _ancestors(parents: np.ndarray) -> torch.Tensor:
    above = torch.eye(len(parents), dtype=torch.bool)
    for segment, parent in enumerate(parents.tolist()):
        if parent >= 0:
            above[segment] |= above[parent]
    return above
