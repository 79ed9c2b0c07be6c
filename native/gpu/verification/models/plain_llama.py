"""A Llama-architecture model in plain PyTorch; parameter names are Hugging Face's, so a state dict is a checkpoint."""

import math
from dataclasses import dataclass
from typing import List, Optional, Tuple

import torch
import torch.nn as nn
import torch.nn.functional as F


KV = Tuple[torch.Tensor, torch.Tensor]  # keys and values, each [B, kv_heads, T, head_dim]


@dataclass
class Config:
    """The keys of Hugging Face's LlamaConfig."""

    vocab_size: int = 4096
    hidden_size: int = 256
    intermediate_size: int = 608
    num_hidden_layers: int = 4
    num_attention_heads: int = 4
    num_key_value_heads: int = 2
    head_dim: int = 64
    rms_norm_eps: float = 1e-5
    rope_theta: float = 10000.0
    max_position_embeddings: int = 1024
    tie_word_embeddings: bool = True


class RMSNorm(nn.Module):
    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = x.float()
        h = h * torch.rsqrt(h.pow(2).mean(-1, keepdim=True) + self.eps)
        return (h * self.weight.float()).to(x.dtype)


def rope_tables(config: Config, positions: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
    """cos and sin [.., 1, T, head_dim] (f32) for positions [.., T]."""
    half = torch.arange(0, config.head_dim, 2, device=positions.device).float() / config.head_dim
    angles = positions[..., None].float() / (config.rope_theta ** half)
    angles = torch.cat((angles, angles), -1).unsqueeze(-3)
    return angles.cos(), angles.sin()


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotary embedding in Hugging Face's rotate_half convention; x [B, heads, T, head_dim]."""
    first, second = x.chunk(2, -1)
    return x * cos.to(x.dtype) + torch.cat((-second, first), -1) * sin.to(x.dtype)


class Attention(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        c = config
        self.config = c
        self.q_proj = nn.Linear(c.hidden_size, c.num_attention_heads * c.head_dim, bias=False)
        self.k_proj = nn.Linear(c.hidden_size, c.num_key_value_heads * c.head_dim, bias=False)
        self.v_proj = nn.Linear(c.hidden_size, c.num_key_value_heads * c.head_dim, bias=False)
        self.o_proj = nn.Linear(c.num_attention_heads * c.head_dim, c.hidden_size, bias=False)

    def forward(
        self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, bias: torch.Tensor, past: Optional[KV] = None
    ) -> Tuple[torch.Tensor, KV]:
        """x [B, T, hidden]; bias [B or 1, 1, T, P + T], 0 where a token may look and -inf where not; past: P tokens."""
        c = self.config
        B, T, _ = x.shape
        groups = c.num_attention_heads // c.num_key_value_heads
        q = rotate(self.q_proj(x).view(B, T, -1, c.head_dim).transpose(1, 2), cos, sin)
        k = rotate(self.k_proj(x).view(B, T, -1, c.head_dim).transpose(1, 2), cos, sin)
        v = self.v_proj(x).view(B, T, -1, c.head_dim).transpose(1, 2)
        if past is not None:
            k, v = torch.cat((past[0], k), 2), torch.cat((past[1], v), 2)
        now = (k, v)
        k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
        scores = (q * (1 / math.sqrt(c.head_dim))) @ k.transpose(-1, -2)
        weights = torch.softmax(scores.float() + bias, -1).to(v.dtype)
        return self.o_proj((weights @ v).transpose(1, 2).reshape(B, T, -1)), now


class MLP(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        self.self_attn = Attention(config)
        self.mlp = MLP(config)
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(
        self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, bias: torch.Tensor, past: Optional[KV] = None
    ) -> Tuple[torch.Tensor, KV]:
        attended, now = self.self_attn(self.input_layernorm(x), cos, sin, bias, past)
        x = x + attended
        return x + self.mlp(self.post_attention_layernorm(x)), now


class Model(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList([Layer(config) for _ in range(config.num_hidden_layers)])
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)


class LlamaForCausalLM(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.model = Model(config)
        self.lm_head = None if config.tie_word_embeddings else nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        for name, parameter in self.named_parameters():
            if parameter.dim() > 1:
                # Projections that write to the residual stream start smaller, the deeper the model (GPT-2's habit).
                deep = name.endswith(("o_proj.weight", "down_proj.weight"))
                nn.init.normal_(parameter, 0, 0.02 / math.sqrt(2 * config.num_hidden_layers) if deep else 0.02)

    def hidden(self, ids: torch.Tensor, positions: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        """ids, positions [B, T]; bias [B, 1, T, T] → [B, T, hidden], normalised, ready for `logits`."""
        cos, sin = rope_tables(self.config, positions)
        x = self.model.embed_tokens(ids)
        for layer in self.model.layers:
            x, _ = layer(x, cos, sin, bias)
        return self.model.norm(x)

    def extend(self, ids: torch.Tensor, past: Optional[List[KV]] = None) -> Tuple[torch.Tensor, List[KV]]:
        """Goes on after `past` with ids [1, T] → logits [vocab] of the last one, and the cache of all layers.

        A cache is never written to again, so branches may share one.
        """
        length = past[0][0].shape[2] if past else 0
        T = ids.shape[1]
        positions = torch.arange(length, length + T, device=ids.device)[None]
        bias = torch.cat((torch.zeros(1, 1, T, length, device=ids.device), causal_bias(T, ids.device)), -1)
        cos, sin = rope_tables(self.config, positions)
        x = self.model.embed_tokens(ids)
        cache: List[KV] = []
        for index, layer in enumerate(self.model.layers):
            x, now = layer(x, cos, sin, bias, past[index] if past else None)
            cache.append(now)
        return self.logits(self.model.norm(x[:, -1]))[0], cache

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        head = self.model.embed_tokens.weight if self.lm_head is None else self.lm_head.weight
        return F.linear(hidden, head)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Logits [B, T, vocab] of plain causal sequences [B, T]."""
        B, T = ids.shape
        positions = torch.arange(T, device=ids.device)[None].expand(B, T)
        return self.logits(self.hidden(ids, positions, causal_bias(T, ids.device)))


def causal_bias(length: int, device: Optional[torch.device] = None) -> torch.Tensor:
    return torch.full((1, 1, length, length), float("-inf"), device=device).triu(1)


def count_parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())
