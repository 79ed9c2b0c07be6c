"""Attention along branches, in any model of transformers that takes its attention function from the registry.

spans: each example of a pack on its own, by products and a softmax, with that example's small mask. Examples do not see
each other, so nothing is computed between them.
flex: FlexAttention over the whole pack; blocks in which no token sees another are skipped.
"""

from typing import Any, Dict, List, NamedTuple, Optional, Tuple

import torch
import torch.nn.functional as F
from transformers import AttentionInterface, PreTrainedModel

from ..data.packing import Pack
from ..errors import InputError

SPANS, FLEX = "apar_spans", "flex_attention"
# Block masks are made for multiples of this; a longer block than the kernel's own 128 would skip less.
FLEX_BLOCK = 128


class Span(NamedTuple):
    """An example's tokens, which lie behind those of the span before."""

    length: int
    mask: torch.Tensor  # f [n, n]: 0 or -inf


def inputs_of(pack: Pack, kind: str, dtype: torch.dtype) -> Dict[str, Any]:
    """What a model is called with besides the tokens to judge. The pack is on the model's device."""
    common = {"input_ids": pack.ids[None], "position_ids": pack.positions[None], "use_cache": False}
    if kind == FLEX:
        return {**common, "attention_mask": block_mask(pack)}
    return {**common, "attention_mask": None, "apar_spans": spans(pack, dtype)}


def spans(pack: Pack, dtype: torch.dtype) -> List[Span]:
    found = []
    for begin, end in pack.spans:
        length = end - begin
        mask = torch.zeros((length, length), dtype=dtype, device=pack.ids.device)
        found.append(Span(length, mask.masked_fill_(~pack.mask(begin, end), float("-inf"))))
    return found


def block_mask(pack: Pack) -> Any:
    """A BlockMask [1, 1, N, N]."""
    from torch.nn.attention.flex_attention import create_block_mask

    segments, ancestors = pack.segments, pack.ancestors

    def sees(_batch: torch.Tensor, _head: torch.Tensor, q: torch.Tensor, kv: torch.Tensor) -> torch.Tensor:
        return (kv <= q) & ancestors[segments[q], segments[kv]]

    length = len(pack)
    return create_block_mask(sees, None, None, length, length, device=pack.ids.device, BLOCK_SIZE=FLEX_BLOCK)


def spans_attention(
    module: torch.nn.Module,
    query: torch.Tensor,  # [1, heads, N, head_dim]
    key: torch.Tensor,  # [1, kv_heads, N, head_dim]
    value: torch.Tensor,
    attention_mask: Optional[torch.Tensor],
    apar_spans: Optional[List[Span]] = None,
    dropout: float = 0.0,
    scaling: Optional[float] = None,
    **others: Any,
) -> Tuple[torch.Tensor, None]:
    if apar_spans is None or attention_mask is not None:
        raise InputError("unsupported_checkpoint", f"{type(module).__name__} does not hand on what its attention must see")
    if others.get("softcap") is not None or others.get("s_aux") is not None:
        raise InputError("unsupported_checkpoint", f"{type(module).__name__} needs --attention flex: its scores are not plain")
    lengths = [span.length for span in apar_spans]
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    # One split, not a slice per span: the backward pass of a slice fills a whole tensor with zeros.
    parts = zip(apar_spans, *((t[0].split(lengths, 1)) for t in (query * scale, key, value)))
    return torch.cat([attend(q, k, v, span.mask, dropout) for span, q, k, v in parts], 0)[None], None


def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor, dropout: float) -> torch.Tensor:
    """Scaled queries [heads, n, d], keys and values [kv_heads, n, d], mask [n, n] -> [n, heads, d].

    Products and a softmax, written out: with a mask, the backward pass of torch's fused kernel for CPUs took longer.
    Queries that share a key head are rows of one product, so keys are not repeated.
    """
    heads, length, width = q.shape
    groups = k.shape[0]
    scores = torch.bmm(q.reshape(groups, -1, width), k.transpose(1, 2)).view(groups, -1, length, length)
    weights = torch.softmax(scores + mask.to(scores.dtype), -1)
    if dropout:
        weights = F.dropout(weights, dropout)
    found = torch.bmm(weights.view(groups, -1, length), v)
    return found.view(heads, length, width).transpose(0, 1)


AttentionInterface.register(SPANS, spans_attention)


def choose(wanted: str, device: torch.device) -> str:
    """The registered name for --attention."""
    if wanted == "auto":
        wanted = "flex" if device.type == "cuda" else "spans"
    if wanted == "flex" and device.type == "cpu":
        raise InputError("invalid_request", "--attention flex: FlexAttention has no backward pass on a CPU")
    return FLEX if wanted == "flex" else SPANS


def check_windows(model: PreTrainedModel, longest_path: int) -> None:
    """Masks of branches know no sliding window: within the window both are the same, so longer paths are refused."""
    config = model.config.get_text_config()
    window = getattr(config, "sliding_window", None)
    kinds = getattr(config, "layer_types", None)
    used = bool(window) and getattr(config, "use_sliding_window", True)
    if kinds is not None:
        used = used and "sliding_attention" in kinds
    if used and longest_path > window:
        raise InputError("invalid_request", f"the model's layers see {window} tokens back: use --context {window} at most")
