"""Computes demo_logits.json again: the logits of models/demo by transformers, in f32 from its bf16 weights.

    python3 test/golden/make_demo_logits.py        # needs torch and transformers (training/torch)

The paths stay those of the file: a prompt of its held-out data, an answer up to a fork, and both sides of that fork.
Format: {"model_sha256", "vocab_size", "cases": [{"name", "ids", "rows": [{"position", "top": [[id, logit], ...]}],
"last": base64 of vocab_size little-endian float32}]}; "last" and the last row belong to the last token of "ids".
"""

import base64
import hashlib
import json
from pathlib import Path
from typing import Dict, List

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

HERE = Path(__file__).parent
GOLDEN, MODEL = HERE / "demo_logits.json", HERE.parents[1] / "models" / "demo"
TOP = 8
EARLIER_ROWS = 3


@torch.no_grad()
def case(model: PreTrainedModel, name: str, ids: List[int]) -> Dict:
    logits = model(torch.tensor([ids])).logits[0]
    positions = [len(ids) * step // (EARLIER_ROWS + 1) for step in range(1, EARLIER_ROWS + 1)] + [len(ids) - 1]
    rows = []
    for position in positions:
        values, best = logits[position].topk(TOP)
        rows.append({"position": position, "top": [[int(i), round(float(v), 5)] for i, v in zip(best, values)]})
    last = base64.b64encode(logits[-1].numpy().astype("<f4").tobytes()).decode()
    return {"name": name, "ids": ids, "rows": rows, "last": last}


def main() -> None:
    model = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32).eval()
    digest = hashlib.sha256((MODEL / "model.safetensors").read_bytes()).hexdigest()
    cases = [case(model, old["name"], old["ids"]) for old in json.loads(GOLDEN.read_text())["cases"]]
    GOLDEN.write_text(json.dumps({"model_sha256": digest, "vocab_size": model.config.vocab_size, "cases": cases}) + "\n")


if __name__ == "__main__":
    main()
