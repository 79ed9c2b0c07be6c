"""What an answer says without its branches: the text that a model which knows none would judge."""

from typing import Sequence

import numpy as np

from .packing import Pack, SerialText, Weights, pack_examples
from .shards import SERIAL, STRUCTURED, Example, Meta


def with_serial_text(pack: Pack, examples: Sequence[Example], meta: Meta) -> Pack:
    """`pack` of `examples`, and their texts in the order in which they are read. Ends are no text: what ends an answer or
    a branch is form."""
    texts = [serial_text(example, meta) for example in examples]
    targets = pack.targets.numpy()
    is_text = ~np.isin(targets, (meta.fork, meta.child, *meta.eos))
    pack.serial = SerialText(pack_examples(texts, meta, Weights()), pack.targets.new_tensor(is_text, dtype=bool))
    return pack


def serial_text(example: Example, meta: Meta) -> Example:
    """One segment, without [Fork], [Child] and the ends of branches; as learned are marked the learned tokens of text.
    Segments lie in the order in which they are read, so that nothing moves."""
    ids, learned = example.ids, example.learned.astype(bool)
    ends = np.isin(ids, meta.eos)
    dropped = np.zeros(len(ids), dtype=bool)
    if example.kind == STRUCTURED:
        dropped = np.isin(ids, (meta.fork, meta.child)) | (ends & _in_branch(example, meta))
    kept = ids[~dropped]
    text = (learned & ~ends)[~dropped]
    return Example(kept, text, np.array([0, len(kept)]), np.array([-1]), SERIAL)


def without_tokens(example: Example, left_out: Sequence[int]) -> Example:
    """The same segments without some tokens: of [Fork] and [Child], what a model that knows neither can read."""
    kept = ~np.isin(example.ids, left_out)
    starts = np.append(0, np.cumsum(kept))[example.starts]
    return Example(example.ids[kept], example.learned[kept], starts, example.parents, example.kind)


def _in_branch(example: Example, meta: Meta) -> np.ndarray:
    """bool [N]: the token's segment begins with [Child], or one above does."""
    inside = np.zeros(len(example.parents), dtype=bool)
    for segment, parent in enumerate(example.parents.tolist()):
        inside[segment] = example.ids[example.starts[segment]] == meta.child or (parent >= 0 and inside[parent])
    return np.repeat(inside, np.diff(example.starts))
