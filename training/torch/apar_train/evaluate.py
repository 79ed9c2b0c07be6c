"""Judges a checkpoint on held-out prompts: python3 -m apar_train.evaluate --data work --model models/demo --out report.json"""

import argparse
import json
import random
import re
from pathlib import Path
from typing import Dict, List

import numpy as np
import torch

from . import checkpoint
from .decode import Branch, decode, document, marked
from .loss import weighted_loss
from .packing import MASKED, build_trie, pack
from .shards import Sequence, read_conversations
from .vocabulary import Vocabulary


def prompt_of(rows: List[Sequence]) -> List[int]:
    first = int(np.nonzero(rows[0].labels != MASKED)[0][0])
    return rows[0].ids[:first].tolist()


def kind_of(rows: List[Sequence], words: Vocabulary) -> str:
    if len(rows) == 1:
        return "plain"
    return "list" if re.search(r"^1\. ", words.text(rows[0].ids.tolist()), re.M) else "paragraphs"


def faults(branches: List[Branch], words: Vocabulary, kind: str) -> List[str]:
    """Why an answer is not well-formed; an empty list when it is."""
    found = []
    if not all(branch.finished for branch in branches):
        found.append("a branch has no end")
    if any(not words.text(branch.ids).strip() for branch in branches):
        found.append("an empty branch")
    for branch in branches:
        if any(i in words.special and i != words.fork for i in branch.ids):
            found.append("a stray special token")
    root = words.text(branches[0].ids)
    numbers = [int(n) for n in re.findall(r"^(\d+)\. ", root, re.M)]
    if kind == "list" and numbers != list(range(1, len(numbers) + 1)):
        found.append("numbers out of order")
    if kind == "list" and len(numbers) != len(branches[0].forks):
        found.append("items and forks differ in number")
    if kind != "plain" and not branches[0].forks:
        found.append("no fork")
    return found


@torch.no_grad()
def loss_of(model: torch.nn.Module, conversations: List[List[Sequence]]) -> float:
    total = weight = 0.0
    for start in range(0, len(conversations), 8):
        loss, count = weighted_loss(model, pack([build_trie(rows) for rows in conversations[start : start + 8]]))
        total, weight = total + float(loss), weight + float(count)
    return total / max(1.0, weight)


def judge(model: torch.nn.Module, words: Vocabulary, conversations: List[List[Sequence]]) -> Dict:
    """Decodes every prompt; the shares the model card reports, and every answer."""
    answers = []
    for rows in conversations:
        kind = kind_of(rows, words)
        branches = decode(model, words, prompt_of(rows))
        wanted = [words.text(row.ids[row.labels != MASKED].tolist()).replace("</s>", "") for row in rows]
        got = [words.text(branch.ids) for branch in branches]
        main = len(branches[0].ids)
        answers.append(
            {
                "kind": kind,
                "prompt": words.text(prompt_of(rows)),
                "branches": len(branches),
                "faults": faults(branches, words, kind),
                "exact": got == wanted,
                "exact_branches": sum(g == w for g, w in zip(got, wanted)),
                "wanted_branches": len(wanted),
                "tokens": sum(len(b.ids) + 1 for b in branches),
                "steps": max([main + 1] + [at + 2 + len(branches[child].ids) + 1 for at, child in branches[0].forks]),
                "marked": marked(branches, words),
                "text": document(branches, words),
            }
        )
    return {"answers": answers, **{kind: shares([a for a in answers if a["kind"] == kind]) for kind in ("list", "paragraphs", "plain")}}


def shares(answers: List[Dict]) -> Dict:
    count = max(1, len(answers))
    return {
        "prompts": len(answers),
        "fork": round(sum(a["branches"] > 1 for a in answers) / count, 4),
        "well_formed": round(sum(not a["faults"] for a in answers) / count, 4),
        "exact": round(sum(a["exact"] for a in answers) / count, 4),
        "branches_exact": round(sum(a["exact_branches"] for a in answers) / max(1, sum(a["wanted_branches"] for a in answers)), 4),
        "branches_per_answer": round(sum(a["branches"] for a in answers) / count, 2),
        "tokens_per_step": round(sum(a["tokens"] for a in answers) / max(1, sum(a["steps"] for a in answers)), 2),
    }


def serial_check(model: torch.nn.Module, words: Vocabulary, conversations: List[List[Sequence]]) -> Dict:
    """The same lists with forking off: does the model go on well in one branch, and write the same text?"""
    answers = []
    for rows in conversations:
        parallel, serial = (decode(model, words, prompt_of(rows), forking=forking) for forking in (True, False))
        items = len(re.findall(r"^\d+\. .+: .{10,}", document(serial, words), re.M))
        answers.append(
            {
                "ended": serial[0].finished,
                "same_items": items == len(parallel) - 1,
                "same_text": document(serial, words) == document(parallel, words),
                "text": document(serial, words),
            }
        )
    keys = ("ended", "same_items", "same_text")
    found = {key: round(sum(a[key] for a in answers) / max(1, len(answers)), 4) for key in keys}
    return {"prompts": len(answers), **found, "answers": answers}


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--data", type=Path, required=True)
    p.add_argument("--model", type=Path, required=True)
    p.add_argument("--out", type=Path, required=True)
    p.add_argument("--prompts", type=int, default=0, help="at most so many held-out prompts; 0: all")
    p.add_argument("--seen", type=int, default=100, help="so many training prompts besides")
    p.add_argument("--serial", type=int, default=30, help="so many lists seen in training, with forking off")
    args = p.parse_args()
    model, words = checkpoint.load(args.model), Vocabulary(args.model / "tokenizer.json")
    rng = random.Random(1)
    test, train = read_conversations(args.data / "test"), read_conversations(args.data / "train")
    chosen = rng.sample(test, min(args.prompts or len(test), len(test)))
    report = {
        "held_out_loss": round(loss_of(model, test), 4),
        "train_loss": round(loss_of(model, train[:: max(1, len(train) // 200)]), 4),
        "held_out": judge(model, words, chosen),
        "seen": judge(model, words, rng.sample(train, min(args.seen, len(train)))),
    }
    lists = [rows for rows in train if kind_of(rows, words) == "list"]
    report["serial"] = serial_check(model, words, rng.sample(lists, min(args.serial, len(lists))))
    args.out.write_text(json.dumps(report, indent=1) + "\n")
    for part in ("held_out", "seen"):
        for kind in ("list", "paragraphs", "plain"):
            print(part, kind, json.dumps(report[part][kind]))
    print("serial", {key: value for key, value in report["serial"].items() if key != "answers"})
    print("held_out_loss", report["held_out_loss"], "train_loss", report["train_loss"])


if __name__ == "__main__":
    main()
