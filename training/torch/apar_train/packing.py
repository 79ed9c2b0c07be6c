"""Rows that share prefixes, packed so that a shared token is computed once.

The rows of a conversation are put into a prefix trie. Every node is one token; it sits at the position of its depth and
sees its ancestors only, so its hidden state is exactly what it is in each separate row. A node counts in the loss as
often as rows learn it. tests/test_packing.py shows that loss and gradient equal those of the separate rows.
"""

from dataclasses import dataclass
from typing import Dict, List, Optional, Tuple

import numpy as np
import torch

from .shards import Sequence

MASKED = -100


@dataclass
class Trie:
    """Nodes in an order where parents come first. All arrays [N]."""

    ids: np.ndarray
    parents: np.ndarray  # -1 for a first token
    depths: np.ndarray
    weights: np.ndarray  # how many rows learn this token
    visible: np.ndarray  # bool [N, N]: visible[i, j] when j is i or an ancestor of i
    banned: Optional[int] = None  # a token that may not be chosen anywhere in it

    def __len__(self) -> int:
        return len(self.ids)


def build_trie(rows: List[Sequence], banned: Optional[int] = None) -> Trie:
    children: Dict[Tuple[int, int], int] = {}
    ids: List[int] = []
    parents: List[int] = []
    depths: List[int] = []
    weights: List[float] = []
    for row in rows:
        node = -1
        for depth, (token, label) in enumerate(zip(row.ids.tolist(), row.labels.tolist())):
            key = (node, token)
            if key not in children:
                children[key] = len(ids)
                ids.append(token)
                parents.append(node)
                depths.append(depth)
                weights.append(0.0)
            node = children[key]
            # Nothing predicts a first token.
            if label != MASKED and depth > 0:
                weights[node] += 1.0
    visible = np.zeros((len(ids), len(ids)), dtype=bool)
    for node, parent in enumerate(parents):
        if parent >= 0:
            visible[node] = visible[parent]
        visible[node, node] = True
    return Trie(np.array(ids), np.array(parents), np.array(depths), np.array(weights, dtype=np.float32), visible, banned)


@dataclass
class Batch:
    ids: torch.Tensor  # [B, T]
    positions: torch.Tensor  # [B, T]
    bias: torch.Tensor  # [B, 1, T, T] f32, 0 or -inf
    sources: torch.Tensor  # [M] flat index into [B * T]: the token whose logits are judged
    targets: torch.Tensor  # [M] the token that should follow it
    weights: torch.Tensor  # [M]
    banned: torch.Tensor  # [M] the token that cannot be chosen there, -1 for none

    def to(self, device: torch.device) -> "Batch":
        return Batch(*(t.to(device, non_blocking=True) for t in vars(self).values()))


def pack(tries: List[Trie]) -> Batch:
    """Several tries in as few lines as fit (first fit, longest first); tries in a line do not see each other."""
    length = max(len(trie) for trie in tries)
    lines: List[List[Trie]] = []
    room: List[int] = []
    for trie in sorted(tries, key=len, reverse=True):
        for line, free in enumerate(room):
            if free >= len(trie):
                lines[line].append(trie)
                room[line] -= len(trie)
                break
        else:
            lines.append([trie])
            room.append(length - len(trie))

    ids = np.zeros((len(lines), length), dtype=np.int64)
    positions = np.zeros((len(lines), length), dtype=np.int64)
    # Padding sees itself, because a row without any visible token has no softmax.
    visible = np.tile(np.eye(length, dtype=bool), (len(lines), 1, 1))
    sources, targets, weights, banned = [], [], [], []
    for line, packed in enumerate(lines):
        start = 0
        for trie in packed:
            here = slice(start, start + len(trie))
            ids[line, here] = trie.ids
            positions[line, here] = trie.depths
            visible[line, here, here] = trie.visible
            learned = np.nonzero(trie.weights)[0]
            sources.append(line * length + start + trie.parents[learned])
            targets.append(trie.ids[learned])
            weights.append(trie.weights[learned])
            banned.append(np.full(len(learned), -1 if trie.banned is None else trie.banned))
            start += len(trie)
    bias = np.where(visible, np.float32(0), np.float32("-inf"))[:, None]
    return Batch(
        torch.from_numpy(ids),
        torch.from_numpy(positions),
        torch.from_numpy(bias),
        torch.from_numpy(np.concatenate(sources)),
        torch.from_numpy(np.concatenate(targets)),
        torch.from_numpy(np.concatenate(weights)),
        torch.from_numpy(np.concatenate(banned)),
    )
