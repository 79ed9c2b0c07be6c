"""Greedy decoding with branches: the rules of the reference implementation, one branch after the other.

Slow and simple on purpose: it is what the engine is compared with, and what judges a checkpoint.
"""

from dataclasses import dataclass, field
from typing import List, Optional, Tuple

import torch

from .model import KV, LlamaForCausalLM
from .vocabulary import Vocabulary


@dataclass
class Branch:
    parent: Optional[int]
    depth: int  # 1 for the root
    ids: List[int] = field(default_factory=list)  # after the prompt, or after [Child]; without EOS
    forks: List[Tuple[int, int]] = field(default_factory=list)  # (position of [Fork] in ids, child branch)
    finished: bool = False  # by EOS


@torch.no_grad()
def decode(
    model: LlamaForCausalLM,
    words: Vocabulary,
    prompt: List[int],
    max_tokens: int = 1000,
    max_depth: int = 2,
    max_branches: int = 32,
    forking: bool = True,
) -> List[Branch]:
    """All branches of the greedy answer, the root first. `max_tokens` counts prompt and all branches together."""
    branches: List[Branch] = []
    waiting: List[Tuple[Branch, torch.Tensor, List[KV]]] = []
    spent = len(prompt)

    def begin(parent: Optional[int], ids: List[int], past: Optional[List[KV]]) -> int:
        branch = Branch(parent, 1 if parent is None else branches[parent].depth + 1)
        logits, cache = model.extend(torch.tensor([ids]), past)
        branches.append(branch)
        waiting.append((branch, logits, cache))
        return len(branches) - 1

    begin(None, prompt, None)
    while waiting:
        branch, logits, cache = waiting.pop(0)
        number = branches.index(branch)
        while spent < max_tokens:
            logits[words.child] = float("-inf")
            after_marker = branch.ids[-1] == words.fork if branch.ids else branch.parent is not None
            full = len(branches) >= max_branches
            if not forking or after_marker or branch.depth >= max_depth or full:
                logits[words.fork] = float("-inf")
            token = int(logits.argmax())
            spent += 1
            if token == words.eos:
                branch.finished = True
                break
            branch.ids.append(token)
            logits, cache = model.extend(torch.tensor([[token]]), cache)
            if token == words.fork:
                branch.forks.append((len(branch.ids) - 1, begin(number, [words.child], cache)))
                spent += 1
    return branches


def document(branches: List[Branch], words: Vocabulary, number: int = 0) -> str:
    """The answer in document order: every detail right after the text it belongs to (white space was kept)."""
    branch = branches[number]
    children = dict(branch.forks)
    text, run = "", []
    for position, token in enumerate(branch.ids):
        if position in children:
            text += words.text(run) + document(branches, words, children[position])
            run = []
        else:
            run.append(token)
    return text + words.text(run)


def marked(branches: List[Branch], words: Vocabulary) -> str:
    """The root with its [Fork]s, then every detail on a line of its own."""
    lines = [words.text(branches[0].ids)]
    lines += [f"  [Child {i}]{words.text(b.ids)}" for i, b in enumerate(branches) if i > 0]
    return "\n".join(lines)
