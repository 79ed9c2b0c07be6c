"""Times training steps of the trainer (training/torch), configured as by its command line, on the same batch
repeatedly: tokens per second, and the share of the device's product rate. The loss must fall."""

import json
import math
import sys
import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import Any, List, NamedTuple

import numpy as np

from ..floors import ceilings
from ..models.llama import Shape
from ..part import NATIVE, Failed, Part, Skipped, main
from .loading import LLAMA_1B
from .peer import import_torch

WARM_UPS, STEPS = 3, 6
EOS, FORK, CHILD = 2, 3, 4


class Task(NamedTuple):
    shape: Shape
    tokens: int  # per sequence
    sequences: List[int]  # per batch; the first number that fits into memory is used
    rate: float  # learning rate; small for a wide model, because AdamW's first steps change every weight by this much


# AdamW's state, weights and gradients of 1.5 G parameters take 24 GB in f32; the rest is for activations and logits.
ON_CUDA = Task(LLAMA_1B, 2048, [8, 4, 2, 1], 1e-4)
ON_CPU = Task(Shape(vocab=500, hidden=64, inner=128, layers=2, heads=4, kv_heads=2, head_dim=16), 48, [2], 3e-3)


def run(part: Part) -> None:
    torch = import_torch(part)
    sft, options = import_trainer()
    with tempfile.TemporaryDirectory(dir=part.build_dir) as name:
        folder = Path(name)
        write_build(folder / "data", task_of(part))
        for sequences in task_of(part).sequences:
            try:
                trainer = new_trainer(part, torch, sft, options, folder, sequences)
                time_steps(part, torch, trainer, task_of(part), sequences)
                return
            except torch.cuda.OutOfMemoryError as full:
                why = str(full)[:300]
            part.skip(f"{sequences} sequences", f"out of memory: {why}")
            trainer = None
            torch.cuda.empty_cache()
    raise Skipped("not even one sequence fits into the device's memory")


def task_of(part: Part) -> Task:
    return ON_CUDA if part.cuda else ON_CPU


def import_trainer() -> Any:
    """training/torch/apar_train."""
    sys.path.insert(0, str(NATIVE.parent / "training/torch"))
    try:
        from apar_train import options
        from apar_train.run import sft
    except ImportError as missing:
        raise Skipped(f"the trainer cannot be imported: {missing}") from None
    return sft, options


def new_trainer(part: Part, torch, sft, options, folder: Path, sequences: int):
    import argparse

    from apar_train.run.processes import join

    task = task_of(part)
    settings = {"data": folder / "data", "model": "none", "out": folder / "model", "run": folder / "run", "device": part.device,
                "steps": WARM_UPS + STEPS, "batch-examples": sequences, "pack-tokens": task.tokens * sequences, "lr": task.rate,
                "warmup-steps": 1, "structured-share": 0, "eval-examples": 0}
    parser = argparse.ArgumentParser()
    options.add_sft(parser)
    args = parser.parse_args([word for name, value in settings.items() for word in (f"--{name}", str(value))])
    with created_on(torch, part.device):
        return sft.SupervisedTrainer(args, join(args.device, 0))


def created_on(torch, device: str):
    """A context that creates weights on the device, because a host takes long for a billion random numbers. Before
    PyTorch 2.0 weights are created on the host and copied."""
    return torch.device(device) if hasattr(torch.device, "__enter__") else nullcontext()


def write_build(folder: Path, task: Task) -> None:
    """The same conversation of random tokens for every sequence of a step, so that every step learns the same
    (training/torch/apar_train/data/shards.py)."""
    shape, tokens, copies = task.shape, task.tokens, max(task.sequences)
    train, model = folder / "train", folder / "model"
    train.mkdir(parents=True)
    model.mkdir()
    ids = np.random.default_rng(1).integers(5, shape.vocab, tokens).astype("<u4")
    np.tile(ids, copies).tofile(train / "00000.tokens")
    np.tile(np.arange(tokens) > 0, copies).astype("u1").tofile(train / "00000.learned")
    np.array([[copy * tokens, tokens, 0xFFFFFFFF] for copy in range(copies)], dtype="<u4").tofile(train / "00000.segments")
    np.array([[copy, 1, 2, copy] for copy in range(copies)], dtype="<u4").tofile(train / "00000.examples")
    meta = {"format": "apar-shards", "version": 2, "tokens": "uint32", "vocab_size": shape.vocab, "eos": [EOS], "fork": FORK,
            "child": CHILD, "shards": [{"name": "00000", "examples": copies, "segments": copies, "tokens": copies * tokens}]}
    (train / "meta.json").write_text(json.dumps(meta))
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": shape.vocab, "hidden_size": shape.hidden,
              "intermediate_size": shape.inner, "num_hidden_layers": shape.layers, "num_attention_heads": shape.heads,
              "num_key_value_heads": shape.kv_heads, "head_dim": shape.head_dim, "max_position_embeddings": shape.context,
              "tie_word_embeddings": False}
    (model / "config.json").write_text(json.dumps(config))


def time_steps(part: Part, torch, trainer, task: Task, sequences: int) -> None:
    from ..torch_timing import device_seconds, host_seconds

    losses: List[float] = []

    def step() -> None:
        losses.append(trainer.train_step(0.0).loss)

    for _ in range(WARM_UPS):
        step()
    seconds = sorted((device_seconds if part.cuda else host_seconds)(step, STEPS))[STEPS // 2]
    packing = sorted(host_seconds(lambda: trainer._packs(0), 3))[1]
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
