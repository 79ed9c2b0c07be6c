"""Which examples a step learns: a pure function of the seed and the step, so that a resumed run draws what the unbroken
one would have drawn."""

from dataclasses import dataclass
from typing import List, Optional

import numpy as np

from ..errors import InputError
from .packing import first_fit
from .shards import SERIAL, STRUCTURED, UNSTRUCTURED, Shards


@dataclass(frozen=True)
class Shares:
    """`serial` of all draws are serial copies; of the others, `structured` have forks."""

    structured: float
    serial: float


class Mixture:
    """Draws examples with replacement: first the kind, then one of that kind. A kind without examples has no share."""

    def __init__(self, shards: Shards, shares: Shares, context: int, room: int, seed: int) -> None:
        fits = (shards.paths <= context) & (shards.tokens <= room)
        self.left_out = int((~fits).sum())
        self.shards, self.room, self.seed = shards, room, seed
        self.of_kind = [np.flatnonzero(fits & (shards.kinds == kind)) for kind in (STRUCTURED, SERIAL, UNSTRUCTURED)]
        rest = 1 - shares.serial
        wanted = np.array([rest * shares.structured, shares.serial, rest * (1 - shares.structured)])
        wanted[[len(examples) == 0 for examples in self.of_kind]] = 0
        if wanted.sum() <= 0:
            raise InputError("invalid_request", f"{shards.folder}: no example of a kind with a share fits into "
                             f"--context {context} and --pack-tokens {room} ({self.left_out} do not fit)")  # fmt: skip
        self.shares = wanted / wanted.sum()

    def mean_tokens(self) -> float:
        """Expected tokens of a draw."""
        means = [self.shards.tokens[examples].mean() if len(examples) else 0.0 for examples in self.of_kind]
        return float(np.dot(self.shares, means))

    def total_tokens(self) -> int:
        return int(sum(self.shards.tokens[examples].sum() for examples, share in zip(self.of_kind, self.shares) if share > 0))

    def draw(self, step: int, batch_tokens: int, batch_examples: Optional[int]) -> List[List[int]]:
        """The examples of a step in packs. Ends with the draw that reaches `batch_tokens`, or after `batch_examples`."""
        rng = np.random.default_rng((self.seed, step))
        chosen: List[int] = []
        tokens = 0
        while len(chosen) < batch_examples if batch_examples else tokens < batch_tokens:
            kind = rng.choice(len(self.shares), p=self.shares)
            index = int(rng.choice(self.of_kind[kind]))
            chosen.append(index)
            tokens += int(self.shards.tokens[index])
        packs = first_fit(self.shards.tokens[chosen].tolist(), self.room)
        return [[chosen[at] for at in pack] for pack in packs]

    def sample(self, kind: int, count: int) -> List[int]:
        """The same `count` examples of a kind at every call, or all of them if there are fewer."""
        examples = self.of_kind[kind]
        if count >= len(examples):
            return examples.tolist()
        return sorted(np.random.default_rng(0).choice(examples, count, replace=False).tolist())
