"""Makes the checkpoints of this folder: tiny random weights of every architecture, with their logits by transformers.

python3 -m pip install -r requirements.txt && python3 make.py

NAME/config.json, NAME/model.safetensors  the checkpoint as transformers stores it, in bf16
NAME/shape.json                           the ModelShape (gpu-node/engine/engine-config.ts) that belongs to config.json,
                                          with the frequencies and the factor that transformers itself computes
NAME/logits.f32                           [60, vocabulary] little-endian f32, computed in f32: after each shared token,
                                          then after each token of the first branch, then of the second
tokens.json                               the tokens, the same for all: two branches that continue a shared prefix
"""

import json
import shutil
from pathlib import Path

import numpy
import torch
from safetensors.torch import save_file
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    MistralConfig,
    Phi3Config,
    PreTrainedConfig,
    Qwen2Config,
    Qwen3Config,
    SmolLM3Config,
)

HERE = Path(__file__).parent
SHARED_TOKENS = BRANCH_TOKENS = 20
ORIGINAL_CONTEXT, CONTEXT = 16, 64  # a path of 40 tokens lies between

SIZES = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": CONTEXT,
    "rms_norm_eps": 1e-5,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": None,
}


def rope(kind, theta=10000.0, **options):
    return {"rope_type": kind, "rope_theta": theta, **options}


def scaled(kind, **options):
    return rope(kind, factor=4.0, original_max_position_embeddings=ORIGINAL_CONTEXT, **options)


LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0}
CONFIGS = {
    "llama": LlamaConfig(**SIZES, rope_parameters=rope("default")),
    "llama-tied": LlamaConfig(**SIZES, rope_parameters=rope("default"), tie_word_embeddings=True),
    "llama-linear": LlamaConfig(**SIZES, head_dim=16, rope_parameters=rope("linear", factor=4.0)),
    "llama-llama3": LlamaConfig(
        **SIZES, head_dim=16, rope_parameters=scaled("llama3", **LLAMA3), tie_word_embeddings=True
    ),
    "llama-yarn": LlamaConfig(**SIZES, head_dim=16, rope_parameters=scaled("yarn")),
    "llama-yarn-options": LlamaConfig(
        **SIZES,
        head_dim=16,
        rope_parameters=scaled("yarn", attention_factor=1.25, beta_fast=2.0, beta_slow=0.5, truncate=False),
    ),
    # Within the original context, to which max_position_embeddings refers here, no scaling is in effect.
    "llama-dynamic": LlamaConfig(**SIZES, head_dim=16, rope_parameters=rope("dynamic", factor=4.0)),
    "llama-biases": LlamaConfig(
        **SIZES, rope_parameters=rope("default"), attention_bias=True, mlp_bias=True
    ),
    "mistral": MistralConfig(**SIZES, head_dim=16, rope_parameters=rope("default", 1e6), sliding_window=None),
    "qwen2": Qwen2Config(**SIZES, rope_parameters=rope("default", 1e6)),
    "qwen2-yarn-tied": Qwen2Config(
        **SIZES, rope_parameters=scaled("yarn", theta=1e6), tie_word_embeddings=True
    ),
    "qwen3": Qwen3Config(**SIZES, head_dim=12, rope_parameters=rope("default", 1e6)),
    "qwen3-biases-tied": Qwen3Config(
        **SIZES, head_dim=16, rope_parameters=rope("default", 1e6), attention_bias=True, tie_word_embeddings=True
    ),
    "smollm3": SmolLM3Config(
        **SIZES | {"num_hidden_layers": 3}, rope_parameters=rope("default", 2e6), no_rope_layers=[1, 0, 1]
    ),
    # Phi3 is the model of transformers that is a Llama but for partial rotation. It stores q, k and v as one tensor,
    # and gate and up: they are divided here, so that the result is a Llama with a partial_rotary_factor.
    "llama-partial-rotary": Phi3Config(
        **SIZES, rope_parameters=rope("default", partial_rotary_factor=0.5)
    ),
}
# Stored in the spelling that transformers wrote before version 5: rope_theta and rope_scaling.
OLD_SPELLING = ["llama", "llama-linear", "llama-llama3", "llama-dynamic", "qwen2-yarn-tied", "qwen3"]


def randomise(model, seed):
    """Weights with which logits differ clearly between tokens, in bf16."""
    generator = torch.Generator().manual_seed(seed)
    for name, weight in sorted(model.named_parameters()):
        noise = torch.rand(weight.shape, generator=generator) * 2 - 1
        if name.endswith("bias"):
            value = 0.5 * noise
        elif name.endswith("norm.weight"):
            value = 1 + 0.25 * noise
        elif "embed_tokens" in name:
            value = noise
        else:
            value = noise * 2 / weight.shape[1] ** 0.5
        weight.data = value.bfloat16().float()


def logits_of(model, tokens):
    """[shared and both branches, vocabulary]"""
    shared, branches = tokens["shared"], tokens["branches"]
    with torch.no_grad():
        paths = [model(torch.tensor([shared + branch])).logits[0] for branch in branches]
    return torch.cat([paths[0][: len(shared)], *(path[len(shared) :] for path in paths)])


def check_scaling_matters(config, model, tokens):
    """A reader or an engine that ignores the scaling must fail by a wide margin."""
    if config.rope_parameters["rope_type"] in ("default", "dynamic"):
        return
    unscaled = rope("default", config.rope_parameters["rope_theta"])
    plain = type(config)(**config.to_dict() | {"rope_parameters": unscaled})
    other = AutoModelForCausalLM.from_config(plain, attn_implementation="eager").eval()
    other.load_state_dict(model.state_dict())
    want, got = logits_of(model, tokens), logits_of(other, tokens)
    assert (want - got).abs().max() > 0.01 * want.abs().max()


def head_dim_of(config):
    return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads


def shape_of(config, model):
    parameters = dict(model.named_parameters())
    layer = "model.layers.0."
    rotary = model.model.rotary_emb
    rotated = getattr(config, "no_rope_layers", None) or [1] * config.num_hidden_layers
    return {
        "vocabSize": config.vocab_size,
        "hiddenSize": config.hidden_size,
        "intermediateSize": config.intermediate_size,
        "numLayers": config.num_hidden_layers,
        "numHeads": config.num_attention_heads,
        "numKvHeads": config.num_key_value_heads,
        "headDim": head_dim_of(config),
        "contextTokens": config.max_position_embeddings,
        "rmsNormEps": config.rms_norm_eps,
        "rope": {
            "theta": config.rope_parameters["rope_theta"],
            "frequencies": [float(each) for each in rotary.inv_freq],
            "scale": float(rotary.attention_scaling),
        },
        "layersWithoutRope": [index for index, rotates in enumerate(rotated) if not rotates],
        "biases": {
            "qkv": layer + "self_attn.q_proj.bias" in parameters,
            "attentionOutput": layer + "self_attn.o_proj.bias" in parameters,
            "mlp": layer + "mlp.gate_proj.bias" in parameters,
        },
        "headNorms": layer + "self_attn.q_norm.weight" in parameters,
        "tieWordEmbeddings": config.tie_word_embeddings,
    }


def stored_config(name, config):
    unread = PreTrainedConfig().to_dict().keys() - {"architectures", "dtype", "transformers_version"}
    fields = {key: value for key, value in config.to_dict().items() if key not in unread or key in SIZES}
    fields |= {"dtype": "bfloat16", "model_type": config.model_type}
    if isinstance(config, Phi3Config):
        llama = LlamaConfig(**SIZES, rope_parameters=fields["rope_parameters"])
        llama.architectures = ["LlamaForCausalLM"]
        return stored_config(name, llama)
    if name in OLD_SPELLING:
        parameters = dict(fields.pop("rope_parameters"))
        fields["rope_theta"] = parameters.pop("rope_theta")
        fields["rope_scaling"] = None if parameters["rope_type"] == "default" else parameters
    return fields


def stored_tensors(config, model):
    tensors = {}
    for name, weight in model.named_parameters():
        parts = {name: weight}
        if name.endswith("qkv_proj.weight"):
            kv = config.num_key_value_heads * head_dim_of(config)
            sizes = [config.num_attention_heads * head_dim_of(config), kv, kv]
            parts = {
                name.replace("qkv_proj", f"{which}_proj"): part for which, part in zip("qkv", weight.split(sizes))
            }
        elif name.endswith("gate_up_proj.weight"):
            parts = {
                name.replace("gate_up", which): part for which, part in zip(("gate", "up"), weight.chunk(2))
            }
        tensors |= {part: value.detach().bfloat16().contiguous() for part, value in parts.items()}
    return tensors


def make(name, config, seed, tokens):
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").float().eval()
    config.architectures = [type(model).__name__]
    randomise(model, seed)
    logits = logits_of(model, tokens)
    check_scaling_matters(config, model, tokens)
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()

    def write(file, value):
        (folder / file).write_text(json.dumps(value, indent=2) + "\n")

    write("config.json", stored_config(name, config))
    write("shape.json", shape_of(config, model))
    save_file(stored_tensors(config, model), folder / "model.safetensors", {"format": "pt"})
    logits.numpy().astype("<f4").tofile(folder / "logits.f32")
    if not isinstance(config, Phi3Config):
        again = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32)
        assert torch.equal(logits_of(again.eval(), tokens), logits), "the stored checkpoint has other logits"


def main():
    random = numpy.random.default_rng(15)
    draw = lambda count: random.integers(3, SIZES["vocab_size"], count).tolist()
    tokens = {"shared": [1, *draw(SHARED_TOKENS - 1)], "branches": [draw(BRANCH_TOKENS), draw(BRANCH_TOKENS)]}
    (HERE / "tokens.json").write_text(json.dumps(tokens) + "\n")
    for seed, (name, config) in enumerate(CONFIGS.items()):
        make(name, config, seed, tokens)


main()
