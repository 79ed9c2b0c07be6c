"""Averages checkpoints of one run: python3 -m apar_train.average --data work/data --out models/demo work/stage-1 work/stage-2

Points along one path of training lie around a better one (stochastic weight averaging, arXiv 1803.05407).
"""

import argparse
from pathlib import Path
from typing import List

import torch

from . import checkpoint
from .model import LlamaForCausalLM
from .shards import read_meta


def average(folders: List[Path]) -> LlamaForCausalLM:
    """The model whose every weight is the mean of theirs. They must have one shape."""
    models = [checkpoint.load(folder) for folder in folders]
    for folder, other in zip(folders, models):
        if other.config != models[0].config:
            raise SystemExit(f"{folder} has another shape than {folders[0]}")
    states = [model.state_dict() for model in models]
    models[0].load_state_dict({name: torch.stack([state[name] for state in states]).mean(0) for name in states[0]})
    return models[0]


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--data", type=Path, required=True, help="folder made by `apar data build`: the tokenizer")
    p.add_argument("--out", type=Path, required=True, help="model folder to write")
    p.add_argument("models", type=Path, nargs="+", help="model folders")
    args = p.parse_args()
    meta = read_meta(args.data / "train")
    checkpoint.export(average(args.models), args.out, args.data, meta["bos"], meta["eos"])


if __name__ == "__main__":
    main()
