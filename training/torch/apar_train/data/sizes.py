"""Whether a build has what a run needs, before the model is opened."""

import argparse
from typing import Optional

import numpy as np

from ..errors import InputError
from .shards import STRUCTURED, Shards


def check_sizes(train: Shards, test: Optional[Shards], args: argparse.Namespace) -> None:
    """@raises InputError data_too_small"""
    folder, examples, tokens = train.folder, len(train), int(train.tokens.sum())
    if examples == 0:
        raise _too_small(f"{folder}: has no examples: apar data stats says what was left out of the build")
    if args.structured_share > 0 and not np.any(train.kinds == STRUCTURED):
        raise _too_small(f"{folder}: has no structured answers, from which forks are learned and what their branches say: add "
                         "conversations with lists, headings or paragraphs (--structured-share 0 trains without)")  # fmt: skip
    if args.batch_examples and examples < args.batch_examples:
        raise _too_small(f"{folder}: {examples} examples are fewer than one step takes (--batch-examples {args.batch_examples}): "
                         "more conversations, or less of it")  # fmt: skip
    if not args.batch_examples and tokens < args.batch_tokens:
        raise _too_small(f"{folder}: {tokens} tokens are fewer than one step takes (--batch-tokens {args.batch_tokens}): "
                         "more conversations, or less of it")  # fmt: skip
    if args.eval_examples and (test is None or len(test) == 0):
        where = folder.parent / "test"
        raise _too_small(f"{where}: has no held-out examples: build with a larger --test-share or more conversations, or train with "
                         "--eval-examples 0")  # fmt: skip


def check_any(shards: Shards) -> None:
    """@raises InputError data_too_small"""
    if len(shards) == 0:
        raise _too_small(f"{shards.folder}: has no examples")


def _too_small(reason: str) -> InputError:
    return InputError("data_too_small", reason)
