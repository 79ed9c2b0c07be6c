"""Makes frequencies.json: rotary embeddings of many configurations, as transformers computes them.

python3 -m pip install -r requirements.txt && python3 make.py

Each case has fields of config.json (`config`, in either spelling of the scaling), and transformers' `inv_freq` and
`attention_scaling` for them.
"""

import json
from pathlib import Path

from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
YARN = {"rope_type": "yarn", "original_max_position_embeddings": 32768}

CASES = {
    "Llama 2": {"head_dim": 128},
    "Llama 3": {"head_dim": 128, "rope_theta": 500000.0},
    "a base that f32 rounds": {"head_dim": 96, "rope_theta": 1234567.89},
    "linear": {"head_dim": 128, "rope_scaling": {"type": "linear", "factor": 4.0}},
    "linear by a third": {"head_dim": 80, "rope_parameters": {"rope_type": "linear", "factor": 3, "rope_theta": 1e5}},
    "linear of a half of each head": {
        "head_dim": 64,
        "partial_rotary_factor": 0.5,
        "rope_scaling": {"rope_type": "linear", "factor": 2.0},
    },
    "dynamic": {"head_dim": 64, "rope_scaling": {"type": "dynamic", "factor": 2.0}},
    "Llama 3.1": {
        "head_dim": 128,
        "max_position_embeddings": 131072,
        "rope_theta": 500000.0,
        "rope_scaling": {"rope_type": "llama3", "factor": 8.0, **LLAMA3},
    },
    "Llama 3.2": {
        "head_dim": 64,
        "max_position_embeddings": 131072,
        "rope_parameters": {"rope_type": "llama3", "factor": 32.0, "rope_theta": 500000.0, **LLAMA3},
    },
    "Qwen2.5 with yarn": {
        "head_dim": 128,
        "max_position_embeddings": 131072,
        "rope_theta": 1000000.0,
        "rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768},
    },
    "yarn with an attention factor": {
        "head_dim": 64,
        "rope_parameters": {**YARN, "factor": 2.5, "attention_factor": 0.75, "rope_theta": 10000.0},
    },
    "yarn with mscale": {
        "head_dim": 64,
        "rope_scaling": {**YARN, "factor": 40.0, "mscale": 0.707, "mscale_all_dim": 1.2},
    },
    "yarn with mscale alone": {"head_dim": 64, "rope_scaling": {**YARN, "factor": 40.0, "mscale": 0.707}},
    "yarn not truncated, with other betas": {
        "head_dim": 80,
        "rope_scaling": {**YARN, "factor": 8.0, "beta_fast": 48, "beta_slow": 2.5, "truncate": False},
    },
    "yarn whose factor follows from the contexts": {
        "head_dim": 64,
        "max_position_embeddings": 163840,
        "rope_scaling": {**YARN, "factor": None},
    },
    "yarn with the original context beside it": {
        "head_dim": 64,
        "original_max_position_embeddings": 4096,
        "rope_scaling": {**YARN, "factor": 16.0},
    },
    "yarn of a quarter of each head": {
        "head_dim": 128,
        "partial_rotary_factor": 0.25,
        "rope_scaling": {**YARN, "factor": 4.0},
    },
    "yarn that shrinks nothing": {"head_dim": 16, "rope_scaling": {**YARN, "factor": 0.5}},
}
SIZES = {"max_position_embeddings": 4096, "hidden_size": 256, "num_attention_heads": 4, "vocab_size": 64}


def embedding(config):
    parameters = config.rope_parameters
    compute = ROPE_INIT_FUNCTIONS.get(
        parameters["rope_type"], LlamaRotaryEmbedding.compute_default_rope_parameters
    )
    frequencies, scale = compute(config)
    return {"theta": parameters["rope_theta"], "frequencies": [float(f) for f in frequencies], "scale": float(scale)}


cases = {
    # transformers changes the dictionaries that it is given.
    name: {"config": {**SIZES, **fields}, "rope": embedding(LlamaConfig(**json.loads(json.dumps({**SIZES, **fields}))))}
    for name, fields in CASES.items()
}
lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(case)}" for name, case in cases.items())
Path(__file__).with_name("frequencies.json").write_text(f"{{\n{lines}\n}}\n")
