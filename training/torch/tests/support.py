"""Small random models and rows for the tests; one thread, because other tests run beside these."""

from typing import List

import numpy as np
import torch

from apar_train.model import Config, LlamaForCausalLM
from apar_train.shards import Sequence

torch.set_num_threads(1)

FORK, CHILD, EOS = 3, 4, 2


def tiny(seed: int = 0, **changes: object) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    sizes = dict(vocab_size=40, hidden_size=32, intermediate_size=64, num_hidden_layers=2)
    sizes.update(num_attention_heads=4, num_key_value_heads=2, head_dim=32, max_position_embeddings=128)
    model = LlamaForCausalLM(Config(**{**sizes, **changes}))
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, 0, 0.2)  # large enough for differences to show
    return model


def conversation(rng: np.random.Generator, branches: int) -> List[Sequence]:
    """A main row with `branches` forks and a row per branch, as training/data makes them."""
    prompt = [1, *rng.integers(5, 40, rng.integers(1, 6)).tolist()]
    main, rows = [], []
    for _ in range(branches):
        main += [*rng.integers(5, 40, rng.integers(1, 5)).tolist(), FORK]
        detail = [*rng.integers(5, 40, rng.integers(1, 7)).tolist(), EOS]
        rows.append(sequence([*prompt, *main, CHILD], detail))
    return [sequence(prompt, [*main, *rng.integers(5, 40, 2).tolist(), EOS]), *rows]


def sequence(masked: List[int], learned: List[int]) -> Sequence:
    return Sequence(np.array([*masked, *learned]), np.array([-100] * len(masked) + learned))
