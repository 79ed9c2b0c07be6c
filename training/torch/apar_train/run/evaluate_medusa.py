"""Accuracy of Medusa heads on a build: python -m apar_train evaluate-medusa.

Of each head, over all targets and per kind of conversation: mean cross-entropy (nats), and how often the target is among
the head's k likeliest tokens.
"""

import argparse
from typing import Dict, List, Tuple

import torch

from ..arithmetic import dtype_name, dtype_of
from ..data.packing import filler
from ..data.shards import KINDS, Shards
from ..data.sizes import check_any
from ..model import attention
from ..model.base import context_of
from ..model.frozen import check_head, hidden_states, lm_head_of, open_frozen
from ..model.heads import head_means
from ..model.medusa_folder import read_heads
from ..model.probe import check_attention
from .evaluate_loss import choose, show
from .processes import join
from .trainer import BUILD_MODEL, PACK_TOKENS, packs_of


def run(args: argparse.Namespace) -> bool:
    show(evaluate(args), args.out)
    return True


@torch.no_grad()
def evaluate(args: argparse.Namespace) -> Dict[str, object]:
    device = join(args.device, args.threads).device
    shards = Shards(args.data / args.split)
    check_any(shards)
    meta = shards.meta
    dtype = dtype_of(dtype_name(args.dtype, device))
    kind = attention.choose(args.attention, device)
    plain = open_frozen(args.model, args.adapter, args.data / BUILD_MODEL, meta.vocab_size, dtype)
    plain.set_attn_implementation(kind)
    plain.to(device)
    lm_head = lm_head_of(plain)
    embeddings = plain.get_input_embeddings().weight
    heads = read_heads(args.medusa, lm_head, embeddings).to(device).eval()
    check_attention(plain, plain, kind, device, dtype, len(lm_head))
    check_head(plain, filler(meta).to(device), kind, dtype)

    room = args.pack_tokens or PACK_TOKENS.get(device.type, 1024)
    context = args.context or context_of(plain) or room
    chosen = choose(shards, context, room, args.examples)

    def sums_of(indices: List[int]) -> Dict[str, torch.Tensor]:
        sums: Dict[str, torch.Tensor] = {}
        for pack in packs_of(shards, indices, room, meta):
            pack = pack.to(device)
            hidden = hidden_states(plain, pack, kind, dtype)
            found = heads(hidden, pack, lm_head, embeddings, 1.0, meta.fork, True).sums(meta)
            sums = {name: sums[name] + pair if name in sums else pair for name, pair in found.items()}
        return sums

    kinds = {name: sums_of([i for i in chosen if shards.kinds[i] == number]) for number, name in enumerate(KINDS)}
    kinds = {name: sums for name, sums in kinds.items() if sums}
    names = list(next(iter(kinds.values()), {}))
    whole = {name: sum(sums[name] for sums in kinds.values()) for name in names}
    return {"examples": len(chosen), "of": len(shards), "heads": heads.shape.heads, **_means(whole),
            "by_kind": {name: _means(sums) for name, sums in kinds.items()}}  # fmt: skip


def _means(sums: Dict[str, torch.Tensor]) -> Dict[str, float]:
    pairs: Dict[str, Tuple[float, float]] = {name: (float(pair[0]), float(pair[1])) for name, pair in sums.items()}
    return head_means(pairs)
