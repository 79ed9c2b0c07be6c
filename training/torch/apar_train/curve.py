"""Draws the loss curve of one or several runs, each begun where the one before ended:

    python3 -m apar_train.curve --run work/run --out models/demo/loss.png
"""

import argparse
import json
from pathlib import Path
from typing import Dict, List

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt


def read(run: Path) -> List[Dict]:
    entries: List[Dict] = []
    for line in (run / "log.jsonl").read_text().splitlines():
        entry = json.loads(line)
        if "arguments" in entry:  # a resumed run: what was logged after its state was saved is done again
            entries = [earlier for earlier in entries if earlier["step"] <= entry["step"]]
        entries.append(entry)
    return entries


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--run", type=Path, nargs="+", required=True)
    p.add_argument("--out", type=Path, required=True)
    args = p.parse_args()
    entries: List[Dict] = []
    for run in args.run:
        before = entries[-1]["step"] if entries else 0
        entries += [{**entry, "step": before + entry["step"]} for entry in read(run)]
    figure, axes = plt.subplots(figsize=(7, 3.6), dpi=100)
    for key, label, style in (("loss", "training", "-"), ("held_out_loss", "held-out pages", "o-")):
        points = [(entry["step"], entry[key]) for entry in entries if key in entry]
        axes.plot(*zip(*points), style, label=label, markersize=3, linewidth=1)
    axes.set_xlabel("step")
    axes.set_ylabel("loss (nats per learned token)")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(args.out)


if __name__ == "__main__":
    main()
