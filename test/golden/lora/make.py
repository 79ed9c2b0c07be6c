"""Makes the checkpoints and adapters of this folder: tiny random Llamas, and what peft saves for them.

python3 -m pip install -r requirements.txt && python3 make.py

tied/, untied/       two bases, with the head tied to the embedding table and not, in bf16
NAME/                an adapter for one of them, as peft's save_pretrained() writes it
NAME/golden.json     a greedy answer of the adapted model in f32: its tokens, and the logits that each was taken from

The logits are those of the adapted model as it was trained, which peft's merge_and_unload() keeps, except where LoRA is
on one of two tied layers: peft merges it into both (and warns about it).
"""

import json
import shutil
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

HERE = Path(__file__).parent
VOCAB = 64
PROMPT = [3, 17, 42, 8, 60, 5, 11]
ANSWER = 6

SIZES = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]

# name: (base, new tokens, LoraConfig)
ADAPTERS = {
    "plain": ("untied", 0, {"r": 4, "lora_alpha": 7, "target_modules": ALL}),
    "rslora": ("untied", 0, {"r": 4, "use_rslora": True, "target_modules": ["q_proj", "down_proj"]}),
    "patterns": (
        "untied",
        0,
        {
            "r": 2,
            "target_modules": r"model\.layers\.\d+\.self_attn\.(q_proj|v_proj)",
            "rank_pattern": {"v_proj": 3, r"layers\.1\.self_attn\.q_proj": 1},
            "alpha_pattern": {r"^model\.layers\.0.*": 5},
        },
    ),
    "layers": ("tied", 0, {"r": 2, "target_modules": ["up_proj"], "layers_to_transform": [1], "layers_pattern": "layers"}),
    "tokens": ("tied", 0, {"r": 2, "target_modules": ["o_proj"], "trainable_token_indices": [42, 5]}),
    "tokens-untied": ("untied", 0, {"r": 2, "target_modules": ["o_proj"], "trainable_token_indices": [42, 5]}),
    "tokens-apart": (
        "tied",
        0,
        {"r": 2, "target_modules": ["o_proj"], "trainable_token_indices": {"embed_tokens": [42, 5], "lm_head": [9]}},
    ),
    "new-tokens": ("tied", 2, {"r": 2, "target_modules": ["v_proj"], "trainable_token_indices": [65, 64]}),
    "new-tokens-untied": (
        "untied",
        2,
        {"r": 2, "target_modules": ["v_proj"], "modules_to_save": ["embed_tokens", "lm_head"]},
    ),
    "saved-head": ("tied", 0, {"r": 2, "target_modules": ["v_proj"], "modules_to_save": ["lm_head", "norm"]}),
    "embedding": ("untied", 0, {"r": 2, "target_modules": ["v_proj", "embed_tokens"]}),
    "tied-embedding": ("tied", 0, {"r": 2, "target_modules": ["v_proj", "embed_tokens"]}),
    "tied-head": ("tied", 0, {"r": 2, "target_modules": ["v_proj", "lm_head"]}),
}
MERGED_INTO_BOTH = ["tokens-apart", "tied-embedding", "tied-head"]


def randomise(model, seed, chosen=lambda name: True):
    """Weights with which logits differ clearly between tokens, in bf16."""
    generator = torch.Generator().manual_seed(seed)
    for name, weight in sorted(model.named_parameters()):
        if not chosen(name):
            continue
        noise = torch.rand(weight.shape, generator=generator) * 2 - 1
        if weight.dim() == 1:
            value = 1 + 0.25 * noise
        elif "embed" in name or "token" in name:
            value = noise
        else:
            value = noise * 2 / weight.shape[1] ** 0.5
        weight.data = value.bfloat16().float()


def make_base(folder, tied):
    model = LlamaForCausalLM(LlamaConfig(**SIZES, tie_word_embeddings=tied))
    randomise(model, 1)
    model.bfloat16().save_pretrained(folder)


def load_base(folder, new_tokens):
    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    if new_tokens:
        model.resize_token_embeddings(VOCAB + new_tokens, mean_resizing=False)
    return model.eval()


def answer(model, prompt):
    path, logits = list(prompt), []
    with torch.no_grad():
        for _ in range(ANSWER):
            row = model(torch.tensor([path])).logits[0, -1]
            logits.append(row)
            path.append(int(row.argmax()))
    logits = torch.stack(logits)
    return path[len(prompt) :], logits


def is_clear(logits):
    """Rounding cannot change the answer."""
    first, second = logits.topk(2).values.unbind(1)
    return (first - second).min() > 0.02


def is_trained(parameter):
    return any(part in parameter for part in ("lora_", "modules_to_save", "tokens_delta"))


def make_adapter(name, base, new_tokens, options, seed):
    """Whether the answer is clear."""
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    model = get_peft_model(
        load_base(HERE / base, new_tokens), LoraConfig(task_type="CAUSAL_LM", **options)
    )
    randomise(model, seed, is_trained)
    # peft looks there whether the vocabulary has grown.
    model.peft_config["default"].base_model_name_or_path = str(HERE / base)
    model.save_pretrained(folder)
    (folder / "README.md").unlink()
    model = PeftModel.from_pretrained(load_base(HERE / base, new_tokens), folder).eval()
    prompt = [*PROMPT, *range(VOCAB, VOCAB + new_tokens)]
    tokens, logits = answer(model, prompt)
    if not is_clear(logits) or tokens == answer(load_base(HERE / base, 0), PROMPT)[0]:
        return False
    if name not in MERGED_INTO_BOTH:
        merged = answer(model.merge_and_unload(), prompt)
        assert merged[0] == tokens and (merged[1] - logits).abs().max() < 1e-4
    saved = json.loads((folder / "adapter_config.json").read_text())
    saved["base_model_name_or_path"] = base
    (folder / "adapter_config.json").write_text(json.dumps(saved, indent=2) + "\n")
    rows = [[round(value, 5) for value in row] for row in logits.tolist()]
    golden = {"base": base, "prompt": prompt, "tokens": tokens, "logits": rows}
    (folder / "golden.json").write_text(json.dumps(golden) + "\n")
    return True


def main():
    for base, tied in (("tied", True), ("untied", False)):
        make_base(HERE / base, tied)
        (HERE / base / "generation_config.json").unlink(missing_ok=True)
    for name, adapter in ADAPTERS.items():
        for seed in range(100, 200):
            if make_adapter(name, *adapter, seed):
                break
        else:
            raise AssertionError(f"{name}: no seed with a clear answer")


if __name__ == "__main__":
    main()
