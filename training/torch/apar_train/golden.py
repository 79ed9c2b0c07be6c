"""Writes the logits that the engine's test compares itself with (float32, from the bf16 weights of a model folder):

    cd training/torch
    python3 -m apar_train.golden --data ../../work/data --model ../../models/demo --out ../../test/golden/demo_logits.json

Format: {"model_sha256", "vocab_size", "cases": [{"name", "ids", "rows": [{"position", "top": [[id, logit], ...]}],
"last": base64 of vocab_size little-endian float32}]}; "last" and the last row belong to the last token of "ids".
"""

import argparse
import base64
import hashlib
import json
from pathlib import Path
from typing import Dict, List

import torch

from . import checkpoint
from .evaluate import kind_of, prompt_of
from .model import LlamaForCausalLM
from .shards import read_conversations
from .vocabulary import Vocabulary

TOP = 8
EARLIER_ROWS = 3


@torch.no_grad()
def case(model: LlamaForCausalLM, name: str, ids: List[int]) -> Dict:
    logits = model(torch.tensor([ids]))[0]
    positions = [len(ids) * step // (EARLIER_ROWS + 1) for step in range(1, EARLIER_ROWS + 1)] + [len(ids) - 1]
    rows = []
    for position in positions:
        values, best = logits[position].topk(TOP)
        rows.append({"position": position, "top": [[int(i), round(float(v), 5)] for i, v in zip(best, values)]})
    last = base64.b64encode(logits[-1].numpy().astype("<f4").tobytes()).decode()
    return {"name": name, "ids": ids, "rows": rows, "last": last}


def paths(data: Path, words: Vocabulary) -> Dict[str, List[int]]:
    """Four paths of the held-out data: a short prompt, an answer up to a fork, and both sides of that fork."""
    conversations = read_conversations(data / "test")
    plain = next(rows for rows in conversations if kind_of(rows, words) == "plain")
    listed = next(rows for rows in conversations if kind_of(rows, words) == "list")
    main, branch = listed[0].ids.tolist(), listed[2].ids.tolist()
    child_at = branch.index(words.child)
    assert branch[:child_at] == main[:child_at]
    return {
        "prompt": prompt_of(plain),
        "answer through its second [Fork]": main[:child_at],
        "parent after the [Fork]": main[: child_at + 6],
        "child: [Fork] [Child] and on": branch[: child_at + 12],
    }


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--data", type=Path, required=True)
    p.add_argument("--model", type=Path, required=True)
    p.add_argument("--out", type=Path, required=True)
    args = p.parse_args()
    model, words = checkpoint.load(args.model), Vocabulary(args.model / "tokenizer.json")
    digest = hashlib.sha256((args.model / "model.safetensors").read_bytes()).hexdigest()
    cases = [case(model, name, ids) for name, ids in paths(args.data, words).items()]
    args.out.parent.mkdir(parents=True, exist_ok=True)
    golden = {"model_sha256": digest, "vocab_size": model.config.vocab_size, "cases": cases}
    args.out.write_text(json.dumps(golden) + "\n")


if __name__ == "__main__":
    main()
