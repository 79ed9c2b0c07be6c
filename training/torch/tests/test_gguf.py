"""Weights from a GGUF file are those that were written into it."""

import tempfile
import unittest
from pathlib import Path

import gguf
import numpy as np
import torch

from apar_train.errors import InputError
from apar_train.model.base import open_model

from .support import tiny, write_build


def interleaved(rows: np.ndarray, heads: int) -> np.ndarray:
    """As llama.cpp's converter writes q and k of a Llama."""
    half = rows.shape[0] // heads // 2
    order = [head * 2 * half + part * half + at for head in range(heads) for at in range(half) for part in range(2)]
    return rows[order]


def write(path: Path, model, architecture: str, leave_out: str = "") -> None:
    writer = gguf.GGUFWriter(path, architecture)
    config = model.config
    kind = next(key for key, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture)
    names = gguf.get_tensor_name_map(kind, config.num_hidden_layers)
    for name, parameter in model.named_parameters():
        values = parameter.detach().numpy()
        stored = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if architecture == "llama" and stored.endswith(("attn_q.weight", "attn_k.weight")):
            values = interleaved(values, config.num_attention_heads if "attn_q" in stored else config.num_key_value_heads)
        if stored != leave_out:
            writer.add_tensor(stored, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


class Gguf(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name)

    def build_model(self, architecture):
        return write_build(self.root / f"data-{architecture}", architecture) / "model"

    def test_logits_are_those_of_the_written_model(self):
        ids = torch.tensor([[65, 97, 98, 99, 100]])
        for architecture in ("llama", "qwen3"):
            with self.subTest(architecture):
                model = tiny(architecture).eval()
                path = self.root / f"{architecture}.gguf"
                write(path, model, architecture)
                opened = open_model(str(path), self.build_model(architecture), torch.float32).eval()
                with torch.no_grad():
                    self.assertTrue(torch.equal(opened(ids).logits, model(ids).logits))

    def test_what_is_not_there_is_named(self):
        path = self.root / "x.gguf"
        write(path, tiny(), "llama", leave_out="blk.1.ffn_up.weight")
        with self.assertRaisesRegex(InputError, "blk.1.ffn_up"):
            open_model(str(path), self.build_model("llama"), torch.float32)
        path.write_bytes(b"GGUF")
        with self.assertRaises(InputError):
            open_model(str(path), self.root / "data-llama" / "model", torch.float32)


if __name__ == "__main__":
    unittest.main()
