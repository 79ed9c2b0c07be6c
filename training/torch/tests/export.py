"""python -m tests.export FOLDER: trains a tiny model and an adapter for a few steps, for test/training/torch.test.ts.

FOLDER/model and FOLDER/base + FOLDER/adapter are what `sft` writes, FOLDER/own and FOLDER/shared what `medusa` writes for the
two; FOLDER/logits.json has what transformers and peft
compute with them: {"ids", "model": [...], "adapter": [...]}, the logits after the last id, in f32.
"""

import json
import shutil
import sys
from pathlib import Path

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from apar_train.__main__ import main

from .support import CHILD, FORK, tiny, write_build

IDS = [65, 100, 97, FORK, CHILD, 98, 99]
LENGTH = "--steps 6 --lr 0.01 --warmup-steps 1 --batch-tokens 150 --pack-tokens 60 --device cpu --threads 1 --log-steps 3"


@torch.no_grad()
def last_logits(model: torch.nn.Module) -> list:
    return model.eval()(torch.tensor([IDS])).logits[0, -1].tolist()


def export(root: Path) -> None:
    data, base = write_build(root / "data"), root / "base"
    tiny().save_pretrained(base)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(data / "model" / name, base / name)
    for name, options in (("model", "--model none"), ("adapter", f"--model {base} --lora 4")):
        status = main(["sft", *f"--data {data} --out {root / name} --run {root / name}-run {LENGTH} {options}".split()])
        if status != 0:
            sys.exit(status)
    for name, options in (
        ("own", f"--model {root / 'model'} --kind own --layers 2"),
        ("shared", f"--model {base} --adapter {root / 'adapter'} --kind shared --heads 3"),
        ("conditioned", f"--model {base} --adapter {root / 'adapter'}"),
    ):
        status = main(["medusa", *f"--data {data} --out {root / name} --run {root / name}-run {LENGTH} {options}".split()])
        if status != 0:
            sys.exit(status)
    tuned = AutoModelForCausalLM.from_pretrained(root / "model", dtype=torch.float32)
    adapted = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), str(root / "adapter"))
    logits = {"ids": IDS, "model": last_logits(tuned), "adapter": last_logits(adapted)}
    (root / "logits.json").write_text(json.dumps(logits))


if __name__ == "__main__":
    export(Path(sys.argv[1]))
