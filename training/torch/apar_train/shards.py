"""Reads the token shards that training/data writes (format: training/data/shards/writer.ts)."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List

import numpy as np


@dataclass
class Sequence:
    """One training row: ids [T] and labels [T] (the id itself, or -100 where nothing is learned)."""

    ids: np.ndarray
    labels: np.ndarray


def read_meta(folder: Path) -> Dict:
    path = Path(folder) / "meta.json"
    if not path.is_file():
        raise SystemExit(f"{path} is missing: make the shards first (apar data build)")
    meta = json.loads(path.read_text())
    if meta.get("format") != "apar-shards" or meta.get("version") != 1:
        raise SystemExit(f"{path}: not apar-shards version 1")
    return meta


def read_conversations(folder: Path) -> List[List[Sequence]]:
    """The rows of every conversation, in the order of the files."""
    folder = Path(folder)
    meta = read_meta(folder)
    conversations: Dict[int, List[Sequence]] = {}
    for shard in meta["shards"]:
        base = folder / shard["name"]
        tokens = np.fromfile(f"{base}.tokens", dtype="<u2" if meta["tokens"] == "uint16" else "<u4").astype(np.int64)
        labels = np.fromfile(f"{base}.labels", dtype="<i4").astype(np.int64)
        rows = np.fromfile(f"{base}.rows", dtype="<u4").reshape(-1, 3)
        if len(tokens) != shard["tokens"] or len(labels) != len(tokens) or len(rows) != shard["rows"]:
            raise SystemExit(f"{base}: sizes differ from meta.json; build the shards again")
        for offset, length, conversation in rows.tolist():
            part = slice(offset, offset + length)
            conversations.setdefault(conversation, []).append(Sequence(tokens[part], labels[part]))
    return list(conversations.values())
