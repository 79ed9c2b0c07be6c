"""The command lines of `sft`, `medusa` and their evaluations. Imports no torch: --help answers at once."""

import argparse
from pathlib import Path


def share(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return value


def positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not at least 1")
    return value


DTYPES = ("bfloat16", "float32")
# What the engine takes (gpu-node/engine/engine-config.ts).
MOST_HEADS, MOST_LAYERS = 8, 8


def number_of_heads(text: str) -> int:
    return _between(text, 2, MOST_HEADS)


def number_of_layers(text: str) -> int:
    return _between(text, 1, MOST_LAYERS)


def _between(text: str, least: int, most: int) -> int:
    value = int(text)
    if not least <= value <= most:
        raise argparse.ArgumentTypeError(f"{text} is not between {least} and {most}")
    return value


def add_sft(p: argparse.ArgumentParser) -> None:
    files = _files(p)
    files.add_argument("--model", required=True, help="model folder, GGUF file, or none: from nothing, by DATA/model/config.json")
    files.add_argument("--out", type=Path, required=True, help="model or adapter folder to write")
    _length(p)
    batch = _batch(p)
    batch.add_argument("--serial-share", type=share, default=0.1, help="serial copies, learned while [Fork] is banned (default: %(default)s)")

    what = p.add_argument_group("what is trained")
    what.add_argument("--lora", type=positive, metavar="R", help="rank of LoRA on all linear layers; without it, every weight")
    what.add_argument("--lora-alpha", type=float, help="default: 2 R")
    what.add_argument("--lora-dropout", type=share, default=0.0)
    what.add_argument("--token-init", choices=("auto", "copy", "keep"), default="auto",
                      help="rows of [Fork] and [Child]: copies of those of newline and space, or as they are; auto: as they are in a model that forks already")  # fmt: skip
    what.add_argument("--token-noise", type=float, default=0.01, help="standard deviation added to copied rows (default: %(default)s)")

    what.add_argument("--distillation", type=share, metavar="SHARE",
                      help="with --lora, how much the text is learned from what the base says of it instead of from the data alone; forks "
                           "and ends are learned from the data (default: 0)")  # fmt: skip
    what.add_argument("--base-name", help="the base that adapter_config.json names (default: --model)")

    how = _how(p)
    how.add_argument("--lr", type=float, help="peak (default: 1e-3 for LoRA, 2e-5 for every weight, 3e-3 from nothing)")
    how.add_argument("--token-lr", type=float, help="of the two token rows, with --lora (default: 8 times --lr)")
    how.add_argument("--warmup-steps", type=int, default=20)
    how.add_argument("--adam-betas", type=float, nargs=2, default=(0.9, 0.95), metavar=("B1", "B2"))
    machine = _machine(p)
    machine.add_argument("--parallel", choices=("ddp", "fsdp"), default="ddp", help="under torchrun (default: %(default)s)")
    machine.add_argument("--checkpoint-activations", action="store_true", help="recompute activations: less memory, a third more time")
    notes = _notes(p)
    notes.add_argument("--adapter-dtype", choices=("bfloat16", "float32"), default="bfloat16", help="of the adapter in OUT")


def add_medusa(p: argparse.ArgumentParser) -> None:
    files = _files(p)
    files.add_argument("--model", required=True, help="model folder, or GGUF file: it is not changed")
    files.add_argument("--adapter", type=Path, help="adapter folder made by sft, which is merged first")
    files.add_argument("--base-name", help="the base that config.json names (default: --model)")
    files.add_argument("--out", type=Path, required=True, help="folder of the heads to write")
    _length(p)
    batch = _batch(p)
    batch.add_argument("--serial-share", type=share, default=0.2, help="serial copies, learned while [Fork] is banned (default: %(default)s)")

    what = p.add_argument_group("what is trained")
    what.add_argument("--heads", type=number_of_heads, default=2, help="2 to 8; head i predicts the token i + 2 ahead (default: %(default)s)")
    what.add_argument("--kind", choices=("conditioned", "shared", "own"), default="conditioned",
                      help="own: a head ends with a matrix of its own; shared: with the model's; conditioned: shared, and it reads the next token (default: %(default)s)")  # fmt: skip
    what.add_argument("--draft-vocab", type=positive, help="shared and conditioned heads draft the first so many tokens only, which are the frequent ones: less to compute (default: all)")
    what.add_argument("--layers", type=number_of_layers, default=1, help="1 to 8 residual blocks of a head (default: %(default)s)")

    how = _how(p)
    how.add_argument("--lr", type=float, help="peak (default: 1e-3)")
    how.add_argument("--warmup-steps", type=int, help="default: a tenth of the steps")
    how.add_argument("--adam-betas", type=float, nargs=2, default=(0.9, 0.999), metavar=("B1", "B2"))
    _machine(p)
    _notes(p)
    # Only the heads exchange gradients: nothing to shard.
    p.set_defaults(parallel="ddp")


def _files(p: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    files = p.add_argument_group("files")
    files.add_argument("--data", type=Path, required=True, help="folder made by `apar data build`")
    files.add_argument("--run", type=Path, required=True, help="folder for log.jsonl and the state of the run")
    files.add_argument("--resume", action="store_true", help="go on from RUN where it was cut; begins when RUN is empty")
    return files


def _length(p: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    length = p.add_argument_group("length (one of them; --minutes may be added to the others as a limit)")
    length.add_argument("--steps", type=positive, help="optimizer steps")
    length.add_argument("--epochs", type=float, help="steps that draw as many tokens as DATA has, so often")
    length.add_argument("--minutes", type=float, help="end after this long; the schedule completes")
    return length


def _batch(p: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    batch = p.add_argument_group("batches (of all processes together)")
    batch.add_argument("--batch-tokens", type=positive, default=4096, help="tokens of a step, shared prefixes once (default: %(default)s)")
    batch.add_argument("--batch-examples", type=positive, help="examples of a step, instead of --batch-tokens")
    batch.add_argument("--pack-tokens", type=positive, help="tokens computed at once (default: 1024 on a CPU, 16384 on a GPU)")
    batch.add_argument("--context", type=positive, help="longest path; longer examples are left out (default: the model's)")
    batch.add_argument("--structured-share", type=share, default=0.5, help="of the examples that are not serial copies (default: %(default)s)")
    return batch


def _how(p: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    how = p.add_argument_group("how")
    how.add_argument("--lr-floor", type=share, default=0.02, help="where the cosine ends, as a share of the peak (default: %(default)s)")
    how.add_argument("--weight-decay", type=float, default=0.0)
    how.add_argument("--clip", type=float, default=1.0, help="largest gradient norm (default: %(default)s)")
    how.add_argument("--fork-weight", type=float, default=1.0, help="weight of [Fork] as a target (default: %(default)s)")
    how.add_argument("--eos-weight", type=float, default=1.0, help="weight of the end of a text as a target (default: %(default)s)")
    how.add_argument("--seed", type=int, default=1)
    return how


def _machine(p: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    machine = p.add_argument_group("machine")
    machine.add_argument("--device", help="default: cuda where there is one, else cpu")
    machine.add_argument("--dtype", choices=DTYPES, help="of the arithmetic (default: bfloat16, or float32 on CPUs that are slow at it)")
    machine.add_argument("--attention", choices=("auto", "spans", "flex"), default="auto",
                         help="spans: each example on its own; flex: FlexAttention with a block mask; auto: flex on a GPU")  # fmt: skip
    machine.add_argument("--threads", type=int, default=0, help="of a CPU; 0: as torch chooses")
    return machine


def _notes(p: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    notes = p.add_argument_group("what is written when")
    notes.add_argument("--save-minutes", type=float, default=5, help="state of the run (default: %(default)s)")
    notes.add_argument("--save-steps", type=positive, help="state of the run, also every so many steps")
    notes.add_argument("--log-steps", type=positive, default=10)
    notes.add_argument("--eval-steps", type=positive, default=100, help="held-out losses (default: %(default)s)")
    notes.add_argument("--eval-examples", type=int, default=64, help="held-out examples of each kind; 0: none (default: %(default)s)")
    notes.add_argument("--tensorboard", type=Path, metavar="DIR", help="event files; needs the package tensorboard")
    notes.add_argument("--stop-step", type=positive, help="stop after this step, in the middle of the schedule")
    return notes


def add_evaluate_medusa(p: argparse.ArgumentParser) -> None:
    p.add_argument("--medusa", type=Path, required=True, help="folder of heads")
    _add_evaluation(p)


def add_evaluate_loss(p: argparse.ArgumentParser) -> None:
    p.add_argument("--without-markers", action="store_true", help="rows without [Fork] and [Child], for a base")
    _add_evaluation(p)


def _add_evaluation(p: argparse.ArgumentParser) -> None:
    p.add_argument("--data", type=Path, required=True, help="folder made by `apar data build`")
    p.add_argument("--split", choices=("train", "test"), default="test")
    p.add_argument("--model", required=True, help="model folder or GGUF file")
    p.add_argument("--adapter", type=Path, help="adapter folder made by sft")
    p.add_argument("--out", type=Path, help="JSON file to write; default: only print")
    p.add_argument("--examples", type=int, default=0, help="at most so many of each kind; 0: all")
    p.add_argument("--pack-tokens", type=positive)
    p.add_argument("--context", type=positive)
    p.add_argument("--device")
    p.add_argument("--dtype", choices=DTYPES)
    p.add_argument("--attention", choices=("auto", "spans", "flex"), default="auto")
    p.add_argument("--threads", type=int, default=0)
