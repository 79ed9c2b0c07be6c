"""Reads the token shards that training/data writes (format: training/data/shards/)."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, NoReturn, Tuple

import numpy as np

from ..errors import InputError

STRUCTURED, SERIAL, UNSTRUCTURED = 0, 1, 2
KINDS = ("structured", "serial", "unstructured")
NO_PARENT = 0xFFFFFFFF


@dataclass(frozen=True)
class Meta:
    vocab_size: int
    eos: Tuple[int, ...]
    fork: int
    child: int


@dataclass(frozen=True)
class Example:
    """A conversation as a tree of segments: runs of tokens between forks, parents before their children."""

    ids: np.ndarray  # int64 [T], all segments one after the other
    learned: np.ndarray  # bool [T]
    starts: np.ndarray  # int64 [S + 1]: segment s is ids[starts[s]:starts[s + 1]]
    parents: np.ndarray  # int64 [S], -1 for none
    kind: int

    def __len__(self) -> int:
        return len(self.ids)

    def depths(self) -> np.ndarray:
        """int64 [T]: positions along the path."""
        lengths = np.diff(self.starts)
        first = np.zeros(len(self.parents), dtype=np.int64)
        for segment, parent in enumerate(self.parents.tolist()):
            if parent >= 0:
                first[segment] = first[parent] + lengths[parent]
        return np.arange(len(self.ids)) + np.repeat(first - self.starts[:-1], lengths)


class Shards:
    """All examples of a folder. Tokens stay in the files, which are mapped; per example a few numbers are in memory."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        raw = _read_meta(self.folder / "meta.json")
        # Identifies a build: other conversations give other numbers.
        self.digest = hashlib.sha256(json.dumps(raw, sort_keys=True).encode()).hexdigest()[:16]
        self.meta = Meta(raw["vocab_size"], tuple(raw["eos"]), raw["fork"], raw["child"])
        files = [_open_shard(self.folder, shard, raw) for shard in raw["shards"]]
        self._files = files
        counts = [len(file.examples) for file in files]
        self._file_of = np.repeat(np.arange(len(files)), counts)
        self._row_of = _joined([np.arange(count) for count in counts])
        self.kinds = _joined([file.examples[:, 2] for file in files])  # [E]
        self.sources = _joined([file.examples[:, 3] for file in files])  # [E]: number of the conversation
        self.tokens = _joined([file.lengths for file in files])  # [E]
        self.paths = _joined([file.paths for file in files])  # [E]: tokens of the longest path

    def __len__(self) -> int:
        return len(self.kinds)

    def __getitem__(self, index: int) -> Example:
        return self._files[self._file_of[index]].example(int(self._row_of[index]))


def _joined(arrays: List[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.zeros(0, np.int64), *arrays]).astype(np.int64)


@dataclass
class _Shard:
    ids: np.ndarray
    learned: np.ndarray
    segments: np.ndarray  # int64 [S, 3]: offset, length, parent (-1: none)
    examples: np.ndarray  # uint32 [E, 4]
    lengths: np.ndarray  # int64 [E]: tokens
    paths: np.ndarray  # int64 [E]: tokens of the longest path

    def example(self, row: int) -> Example:
        first, count, kind, _ = self.examples[row].tolist()
        segments = self.segments[first : first + count]
        begin = int(segments[0, 0])
        end = int(segments[-1, 0] + segments[-1, 1])
        starts = np.append(segments[:, 0], end) - begin
        ids = self.ids[begin:end].astype(np.int64)
        return Example(ids, self.learned[begin:end] != 0, starts, segments[:, 2], kind)


def _read_meta(path: Path) -> Dict[str, Any]:
    if not path.is_file():
        raise InputError("invalid_request", f"{path}: is missing: make the shards first (apar data build)")
    try:
        meta = json.loads(path.read_text())
    except ValueError as error:
        raise InputError("invalid_request", f"{path}: {error}") from None
    version = (meta.get("format"), meta.get("version")) if isinstance(meta, dict) else (None, None)
    if version != ("apar-shards", 2):
        raise InputError("invalid_request", f"{path}: is not apar-shards version 2: build the data again")
    ids = [meta.get("fork"), meta.get("child"), *(meta.get("eos") or [])]
    vocab = meta.get("vocab_size")
    if not isinstance(vocab, int) or not all(isinstance(i, int) and 0 <= i < vocab for i in ids):
        raise InputError("invalid_request", f"{path}: fork, child and eos are no ids below vocab_size")
    if meta.get("tokens") not in ("uint16", "uint32") or not isinstance(meta.get("shards"), list):
        raise InputError("invalid_request", f"{path}: tokens or shards is missing or unknown")
    return meta


def _open_shard(folder: Path, entry: Dict[str, Any], meta: Dict[str, Any]) -> _Shard:
    name = str(entry.get("name"))
    base = folder / name
    if "/" in name or name.startswith("."):
        raise InputError("invalid_request", f"{folder / 'meta.json'}: {name!r} is no name of a shard")

    def broken(what: str) -> NoReturn:
        raise InputError("invalid_request", f"{base}: {what}: build the data again")

    def mapped(suffix: str, dtype: str, count: int) -> np.ndarray:
        path = Path(f"{base}.{suffix}")
        wanted = count * np.dtype(dtype).itemsize
        if not path.is_file() or path.stat().st_size != wanted:
            broken(f"NAME.{suffix} does not have the {wanted} bytes that meta.json promises")
        return np.memmap(path, dtype, "r", shape=(count,)) if count else np.zeros(0, dtype)

    counts = [entry.get(key) for key in ("examples", "segments", "tokens")]
    if not all(isinstance(count, int) and count >= 0 for count in counts):
        broken("meta.json does not say how many examples, segments and tokens it has")
    examples_count, segments_count, tokens_count = counts
    ids = mapped("tokens", "<u2" if meta["tokens"] == "uint16" else "<u4", tokens_count)
    learned = mapped("learned", "u1", tokens_count)
    segments = np.array(mapped("segments", "<u4", 3 * segments_count)).reshape(-1, 3).astype(np.int64)
    examples = np.array(mapped("examples", "<u4", 4 * examples_count)).reshape(-1, 4)
    segments[segments[:, 2] == NO_PARENT, 2] = -1

    first, count = examples[:, 0].astype(np.int64), examples[:, 1].astype(np.int64)
    ends = segments[:, 0] + segments[:, 1]
    if np.any(count < 1) or np.any(first + count > segments_count) or np.any(examples[:, 2] >= len(KINDS)):
        broken("an example has no segments, others than there are, or an unknown kind")
    if np.any(segments[:, 1] < 1) or np.any(ends > tokens_count):
        broken("a segment is empty or lies outside of the tokens")
    # Segments of an example lie one after the other, so it is one slice of the file.
    inner = np.ones(segments_count, dtype=bool)
    inner[first] = False
    if not np.array_equal(segments[1:, 0][inner[1:]], ends[:-1][inner[1:]]):
        broken("the segments of an example do not lie one after the other")
    owner = np.repeat(np.arange(examples_count), count)
    if not np.array_equal(np.repeat(first, count) + np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count),
                          np.arange(segments_count)):  # fmt: skip
        broken("the examples do not take the segments in their order")
    within = np.arange(segments_count) - first[owner]
    if np.any(segments[:, 2] >= within):
        broken("a segment's parent does not come before it")
    if tokens_count and int(ids.max()) >= meta["vocab_size"]:
        broken(f"a token is not below vocab_size {meta['vocab_size']}")
    if np.any(learned[segments[segments[:, 2] < 0, 0]]):
        broken("the first token of a path is learned, which nothing predicts")
    lengths = np.add.reduceat(segments[:, 1], first) if examples_count else np.zeros(0, np.int64)
    return _Shard(ids, learned, segments, examples, lengths, _longest_paths(segments, first, count))


def _longest_paths(segments: np.ndarray, first: np.ndarray, count: np.ndarray) -> np.ndarray:
    longest: List[int] = []
    for start, number in zip(first.tolist(), count.tolist()):
        ends: List[int] = []
        for _, length, parent in segments[start : start + number].tolist():
            ends.append(length + (ends[parent] if parent >= 0 else 0))
        longest.append(max(ends))
    return np.array(longest, dtype=np.int64)
