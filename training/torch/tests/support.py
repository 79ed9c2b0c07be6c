"""Small random models, conversations and builds for the tests; one thread, because other tests run beside these."""

import json
from pathlib import Path
from typing import List, NamedTuple, Sequence, Tuple

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedConfig, PreTrainedModel, Qwen3Config

from apar_train.data.shards import NO_PARENT, SERIAL, STRUCTURED, UNSTRUCTURED, Example, Meta

torch.set_num_threads(1)

# A byte is a token.
EOS, FORK, CHILD, VOCAB = 256, 257, 258, 264
META = Meta(VOCAB, (EOS,), FORK, CHILD)
BRANCHING = {"fork_token": "[Fork]", "child_token": "[Child]", "joints": "kept"}


def config(architecture: str = "llama", **changes: object) -> PreTrainedConfig:
    sizes = dict(vocab_size=VOCAB, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4)
    sizes.update(num_key_value_heads=2, head_dim=16, max_position_embeddings=256, tie_word_embeddings=True)
    sizes.update(bos_token_id=EOS, eos_token_id=EOS, pad_token_id=None)
    kind = {"llama": LlamaConfig, "qwen3": Qwen3Config}[architecture]
    return kind(**{**sizes, **changes})


def tiny(architecture: str = "llama", attention: str = "sdpa", seed: int = 0, **changes: object) -> PreTrainedModel:
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config(architecture, **changes), dtype=torch.float32)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 0.15)  # large enough for differences to show
    model.set_attn_implementation(attention)
    return model


class Segment(NamedTuple):
    masked: Sequence[int]
    learned: Sequence[int]
    parent: int  # -1: none


def example(segments: Sequence[Segment], kind: int) -> Example:
    ids = [token for masked, learned, _ in segments for token in (*masked, *learned)]
    flags = [flag for masked, learned, _ in segments for flag in (*[False] * len(masked), *[True] * len(learned))]
    starts = np.cumsum([0, *(len(masked) + len(learned) for masked, learned, _ in segments)])
    return Example(np.array(ids), np.array(flags), starts, np.array([segment.parent for segment in segments]), kind)


def text(rng: np.random.Generator, least: int, most: int) -> List[int]:
    return rng.integers(97, 123, rng.integers(least, most + 1)).tolist()


def conversation(rng: np.random.Generator, forks: int) -> Tuple[Example, Example]:
    """An answer with so many forks, and its serial copy. Main text's segments are 0, 2, 4, ..., details 1, 3, 5, ..."""
    prompt, serial = [65, *text(rng, 1, 6)], []
    segments: List[Segment] = []
    for fork in range(forks):
        main, detail = text(rng, 1, 4), text(rng, 2, 6)
        serial += [*main, *detail]
        here = len(segments)
        segments.append(Segment([] if fork else prompt, [*main, FORK], here - 2 if fork else -1))
        segments.append(Segment([CHILD], [*detail, EOS], here))
    rest = text(rng, 1, 4)
    segments.append(Segment([] if forks else prompt, [*rest, EOS], len(segments) - 2 if forks else -1))
    whole = example(segments, STRUCTURED if forks else UNSTRUCTURED)
    return whole, example([Segment(prompt, [*serial, *rest, EOS], -1)], SERIAL)


def write_shards(folder: Path, examples: Sequence[Tuple[Example, int]]) -> None:
    """(example, source) as training/data writes them."""
    folder.mkdir(parents=True)
    segments: List[Tuple[int, int, int]] = []
    rows: List[Tuple[int, int, int, int]] = []
    offset = 0
    for each, source in examples:
        rows.append((len(segments), len(each.parents), each.kind, source))
        for at, parent in enumerate(each.parents.tolist()):
            begin, end = each.starts[at : at + 2].tolist()
            segments.append((offset + begin, end - begin, parent if parent >= 0 else NO_PARENT))
        offset += len(each)
    np.concatenate([each.ids for each, _ in examples]).astype("<u2").tofile(folder / "00000.tokens")
    np.concatenate([each.learned for each, _ in examples]).astype("u1").tofile(folder / "00000.learned")
    np.array(segments, dtype="<u4").tofile(folder / "00000.segments")
    np.array(rows, dtype="<u4").tofile(folder / "00000.examples")
    meta = {"format": "apar-shards", "version": 2, "tokens": "uint16", "vocab_size": VOCAB, "eos": [EOS], "fork": FORK, "child": CHILD}
    meta["shards"] = [{"name": "00000", "examples": len(rows), "segments": len(segments), "tokens": offset}]
    (folder / "meta.json").write_text(json.dumps(meta))


def write_build(folder: Path, architecture: str = "llama", conversations: int = 6, **changes: object) -> Path:
    """A build: answers with forks, their serial copies, and answers without, in train/ and test/."""
    rng = np.random.default_rng(1)
    examples: List[Tuple[Example, int]] = []
    for source in range(conversations):
        structured, serial = conversation(rng, 1 + source % 3)
        examples += [(structured, source), (serial, source), (conversation(rng, 0)[0], conversations + source)]
    write_shards(folder / "train", examples)
    write_shards(folder / "test", examples[:6])
    model = folder / "model"
    model.mkdir()
    vocabulary = {piece: at for at, piece in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<end>", "[Fork]", "[Child]"])
    tokenizer.save(str(model / "tokenizer.json"))
    shape = {**json.loads(config(architecture, **changes).to_json_string(use_diff=False)), "branching": BRANCHING}
    shape["architectures"] = [{"llama": "LlamaForCausalLM", "qwen3": "Qwen3ForCausalLM"}[architecture]]
    (model / "config.json").write_text(json.dumps(shape))
    (model / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<end>", "tokenizer_class": "PreTrainedTokenizerFast"}))
    (model / "generation_config.json").write_text(json.dumps({"eos_token_id": EOS, "do_sample": False}))
    return folder
