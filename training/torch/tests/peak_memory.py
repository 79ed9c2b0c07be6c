"""python -m tests.peak_memory FOLDER PACK_TOKENS [OPTION ...]: trains a small new model for one step of one pack.

Prints {"peak": bytes}, the most memory that the process had: for test/training/estimate.test.ts.
"""

import json
import resource
import sys
from pathlib import Path

from apar_train.__main__ import main

from .support import write_build

SHAPE = dict(hidden_size=256, intermediate_size=704, num_hidden_layers=8, num_attention_heads=8)
SHAPE.update(num_key_value_heads=4, head_dim=32, max_position_embeddings=8192)


def measure(root: Path, tokens: str, options: list) -> None:
    data = write_build(root / "data", conversations=120, **SHAPE)  # more than a pack
    files = ["--data", str(data), "--model", "none", "--out", str(root / "out"), "--run", str(root / "run")]
    length = ["--steps", "1", "--batch-tokens", tokens, "--pack-tokens", tokens, "--eval-examples", "0"]
    status = main(["sft", *files, *length, "--device", "cpu", "--threads", "1", *options])
    if status != 0:
        sys.exit(status)
    print(json.dumps({"peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}))


if __name__ == "__main__":
    measure(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])
