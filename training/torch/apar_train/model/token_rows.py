"""How the rows of [Fork] and [Child] begin."""

import json
from pathlib import Path
from typing import Dict

import torch
from tokenizers import Tokenizer
from transformers import PreTrainedModel

from ..data.shards import Meta

# A fork stands where a line ends, and what follows [Child] is what would follow a space. Begun at the mean of all rows,
# both had hardly moved after 290,000 tokens, and the model never forked.
FORK_LIKE, CHILD_LIKE = "\n", " "


def begin_rows(model: PreTrainedModel, meta: Meta, build_model: Path, noise: float) -> None:
    """Copies of the rows of newline and space, plus noise, in the embedding and in a head of its own."""
    like = rows_to_copy(meta, build_model)
    generator = torch.Generator().manual_seed(0)
    embedding = model.get_input_embeddings().weight
    head = model.get_output_embeddings().weight
    with torch.no_grad():
        for weight in [embedding] if head is embedding else [embedding, head]:
            for token, other in like.items():
                row = weight[other]
                weight[token] = row + noise * torch.randn(row.shape, generator=generator).to(row)


def rows_to_copy(meta: Meta, build_model: Path) -> Dict[int, int]:
    tokenizer = Tokenizer.from_file(str(build_model / "tokenizer.json"))
    # A SentencePiece tokenizer may write a space before a newline: the last id is the newline's.
    newline, space = (tokenizer.encode(text, add_special_tokens=False).ids[-1] for text in (FORK_LIKE, CHILD_LIKE))
    return {meta.fork: newline, meta.child: space}


def forks_already(model: str) -> bool:
    """Whether the folder's own config.json says that the model was taught to fork."""
    path = Path(model) / "config.json"
    if not path.is_file():
        return False
    config = json.loads(path.read_text())
    return "branching" in config or "apar" in config
