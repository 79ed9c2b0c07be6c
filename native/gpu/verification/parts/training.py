"""Times training steps of the trainer (training/torch), configured as by its command line, on the same batch
repeatedly: tokens per second, and the share of the device's product rate. The loss must fall."""

import json
import math
import sys
import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import List, NamedTuple

import numpy as np

from ..floors import ceilings
from ..models.llama import Shape
from ..part import NATIVE, Failed, Part, Skipped, main
from .loading import LLAMA_1B
from .peer import import_torch

WARM_UPS, STEPS = 3, 6


class Task(NamedTuple):
    shape: Shape
    tokens: int  # per sequence
    sequences: List[int]  # per batch; the first number that fits into memory is used
    rate: float  # learning rate; small for a wide model, because AdamW's first steps change every weight by this much


# The trainer keeps the attention weights of all layers for the backward pass: 23 GB per sequence of 2,048 tokens, in
# addition to 18 GB for weights, gradients and AdamW. Two sequences fit into 80 GB.
ON_CUDA = Task(LLAMA_1B, 2048, [2, 1], 1e-4)
ON_CPU = Task(Shape(vocab=500, hidden=64, inner=128, layers=2, heads=4, kv_heads=2, head_dim=16), 48, [2], 3e-3)


def run(part: Part) -> None:
    torch = import_torch(part)
    sys.path.insert(0, str(NATIVE.parent / "training/torch"))
    from apar_train import train

    task = ON_CUDA if part.cuda else ON_CPU
    with tempfile.TemporaryDirectory(dir=part.build_dir) as name:
        folder = Path(name)
        write_shards(folder / "data", task)
        with created_on(torch, part.device):
            trainer = train.Run(train.parse_arguments(arguments(task, folder, part.device)))
        for sequences in task.sequences:
            try:
                time_steps(part, torch, trainer, task, sequences)
                return
            except torch.cuda.OutOfMemoryError as full:
                why = str(full)[:300]
            part.skip(f"{sequences} sequences", f"out of memory: {why}")
            trainer.optimizer.zero_grad(set_to_none=True)
            torch.cuda.empty_cache()
    raise Skipped("not even one sequence fits into the device's memory")


def arguments(task: Task, folder: Path, device: str) -> List[str]:
    shape = task.shape
    options = {"data": folder / "data", "out": folder / "model", "run": folder / "run", "device": device,
               "hidden-size": shape.hidden, "intermediate-size": shape.inner, "layers": shape.layers, "heads": shape.heads,
               "kv-heads": shape.kv_heads, "head-dim": shape.head_dim, "context": shape.context,
               "batch-tokens": task.sequences[0] * task.tokens, "lr": task.rate, "warmup-steps": 1, "serial-share": 0}
    return ["--untied", *(word for name, value in options.items() for word in (f"--{name}", str(value)))]


def created_on(torch, device: str):
    """A context that creates weights on the device, because a host takes long for a billion random numbers. Before
    PyTorch 2.0 weights are created on the host and copied."""
    return torch.device(device) if hasattr(torch.device, "__enter__") else nullcontext()


def write_shards(folder: Path, task: Task) -> None:
    """Writes random tokens in the trainer's format (training/torch/apar_train/shards.py)."""
    rows, tokens = task.sequences[0], task.tokens
    ids = np.random.default_rng(1).integers(0, task.shape.vocab, rows * tokens)
    meta = {"format": "apar-shards", "version": 1, "tokens": "uint16", "vocab_size": task.shape.vocab, "bos": 1, "eos": 2,
            "fork": 3, "child": 4, "shards": [{"name": "00000", "rows": rows, "tokens": rows * tokens}]}
    for name in ("train", "test", "serial"):
        place = folder / name
        place.mkdir(parents=True)
        ids.astype("<u2").tofile(place / "00000.tokens")
        ids.astype("<i4").tofile(place / "00000.labels")
        np.array([(row * tokens, tokens, row) for row in range(rows)], dtype="<u4").tofile(place / "00000.rows")
        (place / "meta.json").write_text(json.dumps(meta))


def time_steps(part: Part, torch, trainer, task: Task, sequences: int) -> None:
    from apar_train.packing import pack

    from ..torch_timing import device_seconds, host_seconds

    batch = trainer.train[:sequences]
    losses: List[float] = []

    def step() -> None:
        losses.append(trainer.train_step(batch))

    for _ in range(WARM_UPS):
        step()
    seconds = sorted((device_seconds if part.cuda else host_seconds)(step, STEPS))[STEPS // 2]
    packing = sorted(host_seconds(lambda: pack(batch), 3))[1]
    tokens = sequences * task.tokens
    rate = flop(task, tokens) / seconds
    known = ceilings(part)
    part.result("training step", tokens_per_s=round(tokens / seconds, 1), step_us=round(seconds * 1e6, 1), sequences=sequences,
                sequence_tokens=task.tokens, weights=task.shape.linear_weights(), flop_per_s=rate,
                share_of_product=round(rate / known["bf16_flop_per_s"], 4) if known else None,
                product_is_assumed=known.get("assumed") if known else None, packing_us=round(packing * 1e6, 1),
                memory_bytes=torch.cuda.max_memory_allocated() if part.cuda else None, losses=[round(loss, 4) for loss in losses],
                torch=torch.__version__)
    if not all(map(math.isfinite, losses)):
        raise Failed(f"a loss is not finite: {losses}")
    if not losses[-1] < losses[0]:
        raise Failed(f"the loss of one batch did not fall in {len(losses)} steps: {losses}")


def flop(task: Task, tokens: int) -> float:
    """The operations of a step: a multiplication and an addition for each weight and token, and for the scores and
    values of the causal half; once in the forward pass and twice in the backward pass."""
    shape = task.shape
    return 6.0 * tokens * (shape.linear_weights() + shape.layers * shape.heads * shape.head_dim * task.tokens)


if __name__ == "__main__":
    main(run)
