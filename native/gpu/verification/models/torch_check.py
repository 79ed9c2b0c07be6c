"""Checks that torch_llama computes a Llama. Its steps with the static cache are compared with full passes, without a
cache, of plain_llama, which was written independently."""

from typing import Callable

import numpy as np
import torch

from .llama import Shape
from .plain_llama import Config, LlamaForCausalLM
from .torch_llama import Layer, Step, TorchLlama

ROWS = 3
SPARE = 2  # tokens of the cache that no step may read


def reference(model: TorchLlama):
    """plain_llama in f32 with the same weights."""
    s = model.shape
    full = LlamaForCausalLM(Config(
        vocab_size=s.vocab, hidden_size=s.hidden, intermediate_size=s.inner, num_hidden_layers=s.layers,
        num_attention_heads=s.heads, num_key_value_heads=s.kv_heads, head_dim=s.head_dim, rms_norm_eps=s.eps,
        rope_theta=s.theta, max_position_embeddings=s.context, tie_word_embeddings=False))
    weights = {"model.embed_tokens": model.embedding, "model.norm": model.norm, "lm_head": model.head}
    for index, layer in enumerate(model.layers):
        weights.update({f"model.layers.{index}.{name}": weight for name, weight in separate(s, layer).items()})
    full.load_state_dict({f"{name}.weight": weight.float() for name, weight in weights.items()})
    return full.to(model.device)


def separate(shape: Shape, layer: Layer) -> dict:
    """A layer's weights by their names in a checkpoint."""
    q, kv = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    names = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "mlp.gate_proj", "mlp.up_proj"]
    parts = [*layer.qkv.split([q, kv, kv]), *layer.gate_up.split([shape.inner, shape.inner])]
    return {**dict(zip(names, parts)), "self_attn.o_proj": layer.o, "mlp.down_proj": layer.down,
            "input_layernorm": layer.attention_norm, "post_attention_layernorm": layer.mlp_norm}


@torch.no_grad()
def largest_difference(model: TorchLlama, prompt: int, prepare: Callable[[Step], Callable[[], None]]) -> float:
    """The largest difference of logits, divided by the largest logit: after a prompt, after the next token, and after
    the token that this step chose. `prepare` turns a step into a function that runs it, and may run the step itself."""
    full = reference(model)
    ids = model.random_ids(ROWS, prompt + 1)
    cache = model.random_cache(ROWS, prompt + 1 + SPARE)
    differences = []

    def compare(step: Step, seen: torch.Tensor) -> None:
        differences.append(relative_difference(step.logits, full(seen)[:, -1]))

    prefill = Step(model, ids[:, :prompt].clone(), cache, 0)
    run = prepare(prefill)
    cache.normal_()  # so that decoding reads only what `run` has written
    run()
    compare(prefill, ids[:, :prompt])

    decode = Step(model, ids[:, prompt:].clone(), cache, prompt)
    run = prepare(decode)
    decode.ids.copy_(ids[:, prompt:])
    run()
    compare(decode, ids)
    chosen = decode.logits.argmax(-1, keepdim=True)
    run()
    compare(decode, torch.cat((ids[:, :prompt], chosen), 1))
    return float(np.max(differences))


def relative_difference(got: torch.Tensor, want: torch.Tensor) -> float:
    """NaN if any value is NaN; a NaN is within no bound."""
    return float((got.float() - want.float()).abs().max() / want.float().abs().max())
