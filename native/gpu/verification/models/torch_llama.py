"""A Llama for inference in plain PyTorch, with fused projections and a static KV cache. All shapes are known
beforehand, so that a step can be captured as a CUDA graph or compiled. Our engine's speed is compared with it;
models/torch_check.py checks that it is right."""

import math
from contextlib import nullcontext
from typing import ContextManager, List, NamedTuple, Tuple

import torch
import torch.nn.functional as F

from .llama import Shape

# PyTorch's attention kernels. With ANY, PyTorch selects one itself, which f32 and CPUs need.
ANY, FLASH, CUDNN = "any", "flash", "cudnn"


def attention_kernel(name: str) -> ContextManager:
    """A context in which attention uses only this kernel, or raises RuntimeError."""
    if name == ANY:
        return nullcontext()
    from torch.nn.attention import SDPBackend, sdpa_kernel

    return sdpa_kernel({FLASH: SDPBackend.FLASH_ATTENTION, CUDNN: SDPBackend.CUDNN_ATTENTION}[name])


class Layer(NamedTuple):
    """The weights of a layer; matrices are [outputs, inputs]."""

    attention_norm: torch.Tensor
    qkv: torch.Tensor  # q's heads, then k's, then v's
    o: torch.Tensor
    mlp_norm: torch.Tensor
    gate_up: torch.Tensor  # gate's outputs, then up's
    down: torch.Tensor


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    if hasattr(F, "rms_norm"):  # since PyTorch 2.4
        return F.rms_norm(x, (x.shape[-1],), weight, eps)
    wide = x.float()
    return (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)).to(x.dtype) * weight


def rope_tables(shape: Shape, device: str, dtype: torch.dtype) -> Tuple[torch.Tensor, torch.Tensor]:
    """cos and sin [context, 1, head_dim]. The first half of sin is negated, as rotate() needs it."""
    half = torch.arange(0, shape.head_dim, 2, device=device).float() / shape.head_dim
    angles = torch.arange(shape.context, device=device).float()[:, None, None] / shape.theta**half
    cos = torch.cat((angles.cos(), angles.cos()), -1)
    sin = torch.cat((-angles.sin(), angles.sin()), -1)
    return cos.to(dtype), sin.to(dtype)


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotary embedding in the rotate_half convention, in three kernels; x [rows, n, heads, head_dim]."""
    return torch.addcmul(x * cos, torch.roll(x, x.shape[-1] // 2, -1), sin)


def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, causal: bool) -> torch.Tensor:
    """q [rows, heads, n, head_dim]; k, v [rows, kv_heads, tokens, head_dim]. With `causal`, n = tokens, and each token
    attends to itself and those before it."""
    groups = q.shape[1] // k.shape[1]
    if hasattr(F, "scaled_dot_product_attention"):  # since PyTorch 2.0
        if groups == 1:
            return F.scaled_dot_product_attention(q, k, v, is_causal=causal)
        return F.scaled_dot_product_attention(q, k, v, is_causal=causal, enable_gqa=True)  # since 2.5
    k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
    scores = (q @ k.transpose(-1, -2)).float() / math.sqrt(q.shape[-1])
    if causal:
        scores += torch.full(scores.shape[-2:], -math.inf, device=q.device).triu(1)
    return scores.softmax(-1).to(v.dtype) @ v


def block(x: torch.Tensor, h: torch.Tensor, layer: Layer, next_norm: torch.Tensor, keys: torch.Tensor, values: torch.Tensor,
          cos: torch.Tensor, sin: torch.Tensor, start: int, eps: float) -> Tuple[torch.Tensor, torch.Tensor]:
    """One layer; x [rows, n, hidden], and h is x normalised. The block ends with the norm of the next layer: so a
    compiled block has all operations that a compiler can fuse, and one compilation serves all layers. Writes n tokens
    from `start` on into keys and values."""
    rows, n, _ = x.shape
    kv_heads, head_dim = keys.shape[1], keys.shape[3]
    qkv = F.linear(h, layer.qkv).view(rows, n, -1, head_dim)
    heads = qkv.shape[2] - 2 * kv_heads
    qk = rotate(qkv[:, :, :heads + kv_heads], cos, sin)
    end = start + n
    keys[:, :, start:end] = qk[:, :, heads:].transpose(1, 2)
    values[:, :, start:end] = qkv[:, :, heads + kv_heads:].transpose(1, 2)
    attended = attend(qk[:, :, :heads].transpose(1, 2), keys[:, :, :end], values[:, :, :end], causal=n > 1)
    x = x + F.linear(attended.transpose(1, 2).reshape(rows, n, -1), layer.o)
    gate, up = F.linear(rms_norm(x, layer.mlp_norm, eps), layer.gate_up).chunk(2, -1)
    x = x + F.linear(F.silu(gate) * up, layer.down)
    return x, rms_norm(x, next_norm, eps)


class TorchLlama:
    """A model of random weights, created on the device and scaled so that activations keep their magnitude. `block` may
    be replaced by a compiled one."""

    def __init__(self, shape: Shape, device: str, dtype: torch.dtype) -> None:
        self.shape, self.device, self.dtype = shape, device, dtype
        self.block = block

        def matrix(outputs: int, inputs: int) -> torch.Tensor:
            return self.random(outputs, inputs).mul_(inputs**-0.5)

        def norm() -> torch.Tensor:
            return self.random(shape.hidden).mul_(0.1).add_(1)

        q, kv = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
        self.embedding = self.random(shape.vocab, shape.hidden)
        self.layers: List[Layer] = [
            Layer(norm(), matrix(q + 2 * kv, shape.hidden), matrix(shape.hidden, q), norm(),
                  matrix(2 * shape.inner, shape.hidden), matrix(shape.hidden, shape.inner))
            for _ in range(shape.layers)
        ]
        self.norm = norm()
        self.head = matrix(shape.vocab, shape.hidden)
        self.cos, self.sin = rope_tables(shape, device, dtype)

    def random(self, *size: int) -> torch.Tensor:
        return torch.empty(size, device=self.device, dtype=self.dtype).normal_()

    def random_ids(self, rows: int, n: int) -> torch.Tensor:
        return torch.randint(self.shape.vocab, (rows, n), device=self.device)

    def random_cache(self, rows: int, tokens: int) -> torch.Tensor:
        """[layers, 2, rows, kv_heads, tokens, head_dim]; 0: keys, 1: values."""
        return self.random(self.shape.layers, 2, rows, self.shape.kv_heads, tokens, self.shape.head_dim)

    @torch.no_grad()
    def __call__(self, ids: torch.Tensor, cache: torch.Tensor, start: int) -> torch.Tensor:
        """ids [rows, n] follow `start` tokens in the cache: one token per row, or a whole prompt with start = 0.
        Returns the logits [rows, vocab] of the last token."""
        rows, n = ids.shape
        assert n == 1 or start == 0, "causal attention of several tokens starts at the first one"
        cos, sin = self.cos[start:start + n], self.sin[start:start + n]
        x = F.embedding(ids, self.embedding)
        h = rms_norm(x, self.layers[0].attention_norm, self.shape.eps)
        next_norms = [layer.attention_norm for layer in self.layers[1:]] + [self.norm]
        for layer, next_norm, (keys, values) in zip(self.layers, next_norms, cache):
            x, h = self.block(x, h, layer, next_norm, keys, values, cos, sin, start, self.shape.eps)
        return F.linear(h[:, -1], self.head)


class Step:
    """A step on tensors with fixed addresses, as a CUDA graph needs them. A decode step writes the most likely token to
    `ids`, the input of the next step, without the host."""

    def __init__(self, model: TorchLlama, ids: torch.Tensor, cache: torch.Tensor, start: int) -> None:
        self.model, self.ids, self.cache, self.start = model, ids, cache, start

    def __call__(self) -> None:
        self.logits = self.model(self.ids, self.cache, self.start)
        if self.ids.shape[1] == 1:
            self.ids.copy_(self.logits.argmax(-1, keepdim=True))
