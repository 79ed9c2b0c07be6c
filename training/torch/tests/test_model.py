import json
import struct
import tempfile
import unittest
from pathlib import Path

import torch

from apar_train import safetensors
from apar_train.model import rope_tables, rotate

from .support import tiny


class Model(unittest.TestCase):
    def test_a_cache_gives_the_logits_of_the_whole_sequence(self):
        model = tiny().eval()
        ids = torch.randint(5, 40, (1, 12))
        with torch.no_grad():
            whole = model(ids)[0]
            logits, cache = model.extend(ids[:, :5])
            self.assertTrue(torch.allclose(logits, whole[4], atol=1e-5))
            shared = cache
            for at in range(5, 12):
                logits, cache = model.extend(ids[:, at : at + 1], cache)
                self.assertTrue(torch.allclose(logits, whole[at], atol=1e-5))
            other, _ = model.extend(ids[:, 5:12], shared)
        self.assertTrue(torch.allclose(other, whole[11], atol=1e-5))

    def test_untied_embeddings_have_a_head_of_their_own(self):
        self.assertIn("lm_head.weight", tiny(tie_word_embeddings=False).state_dict())
        self.assertNotIn("lm_head.weight", tiny().state_dict())

    def test_rope_turns_pairs_half_a_head_apart(self):
        config = tiny().config
        x = torch.zeros(1, 1, 1, 32)
        x[..., 0] = 1
        cos, sin = rope_tables(config, torch.tensor([[3]]))
        turned = rotate(x, cos, sin)[0, 0, 0]
        self.assertAlmostEqual(float(turned[0]), float(torch.cos(torch.tensor(3.0))), places=5)
        self.assertAlmostEqual(float(turned[16]), float(torch.sin(torch.tensor(3.0))), places=5)


class Safetensors(unittest.TestCase):
    def test_round_trip_and_layout(self):
        tensors = {
            "a.weight": torch.randn(3, 5).to(torch.bfloat16),
            "b": torch.arange(4, dtype=torch.float32),
            "c": torch.tensor([[1, -2]]),
        }
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "x.safetensors"
            safetensors.save(tensors, path)
            loaded = safetensors.load(path)
            data = path.read_bytes()
        self.assertEqual(list(loaded), list(tensors))
        for name, tensor in tensors.items():
            self.assertEqual(loaded[name].dtype, tensor.dtype)
            self.assertTrue(torch.equal(loaded[name], tensor))
        (length,) = struct.unpack_from("<Q", data)
        self.assertEqual(length % 8, 0)
        header = json.loads(data[8 : 8 + length])
        self.assertEqual(header["a.weight"], {"dtype": "BF16", "shape": [3, 5], "data_offsets": [0, 30]})
        self.assertEqual(len(data), 8 + length + header["c"]["data_offsets"][1])


if __name__ == "__main__":
    unittest.main()
