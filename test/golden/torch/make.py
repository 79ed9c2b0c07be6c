"""Writes what is beside this file: checkpoints as torch and Hugging Face's libraries write them, at a tiny size.

apar-7b/      the layout of THUDM/apar-7b: sharded .bin files, a SentencePiece model, Medusa heads whose two residual
              layers are one module
single/       the same weights in pytorch_model.bin, saved as parameters with pickle protocol 4
safetensors/  the same weights in model.safetensors
old.bin       the format that torch wrote before 1.6
views.bin     tensors that share a storage: a row of another, and a transposed one, which is refused

Usage: pip install -r requirements.txt; python make.py
"""

import io
import json
import pathlib
import random
import shutil
from collections import OrderedDict

import safetensors.torch
import sentencepiece
import torch

HERE = pathlib.Path(__file__).parent
VOCAB, HIDDEN, INNER, LAYERS, HEADS = 302, 16, 24, 2, 2
ADDED = {"[SplitMask]": VOCAB - 2, "[SplitSop]": VOCAB - 1}
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "bos_token_id": 1,
    "eos_token_id": 2,
    "hidden_act": "silu",
    "hidden_size": HIDDEN,
    "initializer_range": 0.02,
    "intermediate_size": INNER,
    "max_position_embeddings": 128,
    "model_type": "llama",
    "num_attention_heads": HEADS,
    "num_hidden_layers": LAYERS,
    "pad_token_id": 0,
    "rms_norm_eps": 1e-06,
    "tie_word_embeddings": False,
    "torch_dtype": "float16",
    "transformers_version": "4.28.1",
    "use_cache": True,
    "vocab_size": VOCAB,
}
MEDUSA = {
    "base_model_name_or_path": "apar-7b",
    "medusa_num_heads": 2,
    "medusa_num_layers": 2,
    "transformers_version": "4.28.1",
}


class ResBlock(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(HIDDEN, HIDDEN)


def medusa_heads():
    # One module several times, as the published heads were made: their layers share weights.
    def head():
        blocks = [ResBlock()] * MEDUSA["medusa_num_layers"]
        return torch.nn.Sequential(*blocks, torch.nn.Linear(HIDDEN, VOCAB, bias=False))

    return torch.nn.ModuleList([head() for _ in range(MEDUSA["medusa_num_heads"])]).half()


def weights():
    state = OrderedDict()
    add = lambda name, *shape: state.update({name: (torch.randn(shape) / HIDDEN**0.5).half()})
    norm = lambda name: state.update({name: (1 + torch.randn(HIDDEN) / 4).half()})
    add("model.embed_tokens.weight", VOCAB, HIDDEN)
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}"
        for part in ("q_proj", "k_proj", "v_proj", "o_proj"):
            add(f"{prefix}.self_attn.{part}.weight", HIDDEN, HIDDEN)
        state[f"{prefix}.self_attn.rotary_emb.inv_freq"] = torch.ones(HIDDEN // HEADS // 2)
        add(f"{prefix}.mlp.gate_proj.weight", INNER, HIDDEN)
        add(f"{prefix}.mlp.down_proj.weight", HIDDEN, INNER)
        add(f"{prefix}.mlp.up_proj.weight", INNER, HIDDEN)
        norm(f"{prefix}.input_layernorm.weight")
        norm(f"{prefix}.post_attention_layernorm.weight")
    norm("model.norm.weight")
    add("lm_head.weight", VOCAB, HIDDEN)
    return state


def save_sharded(state, folder):
    names = list(state)
    parts = [names[: len(names) // 2], names[len(names) // 2 :]]
    weight_map = {}
    for index, part in enumerate(parts, 1):
        file = f"pytorch_model-{index:05}-of-{len(parts):05}.bin"
        torch.save({name: state[name] for name in part}, folder / file)
        weight_map |= {name: file for name in part}
    total = sum(tensor.nbytes for tensor in state.values())
    write_json(folder / "pytorch_model.bin.index.json", {"metadata": {"total_size": total}, "weight_map": weight_map})


def save_tokenizer(folder):
    words = ["".join(random.choices("etaoinshr", k=random.randint(1, 4))) for _ in range(4000)]
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([" ".join(words[i : i + 8]) for i in range(0, len(words), 8)]),
        model_writer=model,
        model_type="bpe",
        vocab_size=VOCAB - len(ADDED),
        normalization_rule_name="identity",
        byte_fallback=True,
        add_dummy_prefix=True,
        minloglevel=2,
    )
    (folder / "tokenizer.model").write_bytes(model.getvalue())
    write_json(folder / "added_tokens.json", ADDED)
    write_json(folder / "special_tokens_map.json", {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"})
    tokenizer = {"add_bos_token": True, "add_eos_token": False, "tokenizer_class": "LlamaTokenizer"}
    write_json(folder / "tokenizer_config.json", tokenizer)


def write_json(path, value):
    path.write_text(json.dumps(value, indent=2) + "\n")


def main():
    torch.manual_seed(1)
    random.seed(1)
    state = weights()
    for name in ("apar-7b/medusa", "single", "safetensors"):
        shutil.rmtree(HERE / name, ignore_errors=True)
        (HERE / name).mkdir(parents=True)
    for name in ("apar-7b", "single", "safetensors"):
        write_json(HERE / name / "config.json", CONFIG)
    save_sharded(state, HERE / "apar-7b")
    save_tokenizer(HERE / "apar-7b")
    write_json(HERE / "apar-7b/medusa/config.json", MEDUSA)
    torch.save(medusa_heads().state_dict(), HERE / "apar-7b/medusa/medusa_lm_head.pt")
    parameters = {name: torch.nn.Parameter(tensor, requires_grad=False) for name, tensor in state.items()}
    torch.save(parameters, HERE / "single/pytorch_model.bin", pickle_protocol=4)
    safetensors.torch.save_file(dict(state), HERE / "safetensors/model.safetensors", metadata={"format": "pt"})

    matrix = torch.arange(12.0).reshape(3, 4)
    small = {"matrix": matrix, "row": matrix[1], "half": torch.ones(3, dtype=torch.bfloat16)}
    torch.save(small, HERE / "old.bin", _use_new_zipfile_serialization=False)
    torch.save({**small, "transposed": matrix.t()}, HERE / "views.bin")


main()
