import json
import tempfile
import unittest
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

from apar_train import checkpoint, train
from apar_train.average import average
from apar_train.decode import decode, document
from apar_train.model import Config, LlamaForCausalLM
from apar_train.schedule import learning_rate, progress
from apar_train.shards import read_conversations

from .support import CHILD, EOS, FORK, sequence, tiny


class Words(SimpleNamespace):
    """Every id is its own letter."""

    fork, child, eos = FORK, CHILD, EOS

    def text(self, ids):
        return "".join(chr(60 + i) for i in ids)


def write_shards(folder, conversations):
    folder.mkdir(parents=True)
    rows, offset = [], 0
    for number, conversation in enumerate(conversations):
        for row in conversation:
            rows.append((offset, len(row.ids), number))
            offset += len(row.ids)
    everything = [row for conversation in conversations for row in conversation]
    np.concatenate([row.ids for row in everything]).astype("<u2").tofile(folder / "00000.tokens")
    np.concatenate([row.labels for row in everything]).astype("<i4").tofile(folder / "00000.labels")
    np.array(rows, dtype="<u4").tofile(folder / "00000.rows")
    meta = {"format": "apar-shards", "version": 1, "tokens": "uint16", "vocab_size": 40, "bos": 1, "eos": EOS}
    meta.update(fork=FORK, child=CHILD, rows=len(rows), longest_row=30)
    meta["shards"] = [{"name": "00000", "rows": len(rows), "tokens": offset}]
    (folder / "meta.json").write_text(json.dumps(meta))


PROMPT = [1, 10, 11]
MAIN = [20, 21, FORK, 22, FORK, 23, EOS]
FIRST, SECOND = [30, 31, EOS], [32, 33, 34, EOS]
CONVERSATION = [
    sequence(PROMPT, MAIN),
    sequence([*PROMPT, *MAIN[:3], CHILD], FIRST),
    sequence([*PROMPT, *MAIN[:5], CHILD], SECOND),
]


class Train(unittest.TestCase):
    def test_a_tiny_model_learns_to_fork_and_a_run_can_be_resumed(self):
        with tempfile.TemporaryDirectory() as name:
            root = Path(name)
            write_shards(root / "data" / "train", [CONVERSATION])
            write_shards(root / "data" / "test", [CONVERSATION])
            write_shards(root / "data" / "serial", [[sequence(PROMPT, [20, 21, 30, 31, EOS])]])
            for file in ("tokenizer.json", "tokenizer_config.json"):
                (root / "data" / file).write_text("{}")
            sizes = "--hidden-size 32 --intermediate-size 64 --layers 2 --heads 4 --kv-heads 2 --head-dim 32 --context 64"
            rest = "--batch-tokens 15 --warmup-steps 5 --lr 0.01 --serial-share 0 --device cpu --float32 --threads 1"
            paths = f"--data {root}/data --out {root}/model --run {root}/run"
            arguments = f"{paths} {sizes} {rest}".split()
            first = train.Run(train.parse_arguments([*arguments, "--epochs", "40"]))
            first.loop()
            second = train.Run(train.parse_arguments([*arguments, "--epochs", "60", "--resume"]))
            self.assertEqual(second.step, first.step)
            second.loop()
            losses = [json.loads(line) for line in (root / "run" / "log.jsonl").read_text().splitlines()]
            self.assertLess(losses[-1]["held_out_loss"], 0.1)
            model = checkpoint.load(root / "model")
            third = train.Run(train.parse_arguments([*paths.split(), *rest.split(), "--init", f"{root}/model"]))
            config = json.loads((root / "model" / "config.json").read_text())
        self.assertEqual(config["apar"], {"fork_token": "[Fork]", "child_token": "[Child]", "joints": "kept"})
        self.assertEqual(third.step, 0)
        for name, weights in third.model.state_dict().items():
            self.assertTrue(torch.equal(weights, model.state_dict()[name]), name)
        branches = decode(model, Words(), PROMPT)
        self.assertEqual([branch.ids for branch in branches], [MAIN[:-1], FIRST[:-1], SECOND[:-1]])
        self.assertTrue(all(branch.finished for branch in branches))
        self.assertEqual(document(branches, Words()), Words().text([20, 21, 30, 31, 22, 32, 33, 34, 23]))

    def test_shards_that_do_not_fit_their_meta_are_refused(self):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name) / "train"
            write_shards(folder, [CONVERSATION])
            self.assertEqual(len(read_conversations(folder)[0]), 3)
            (folder / "00000.labels").write_bytes(b"\0" * 8)
            with self.assertRaisesRegex(SystemExit, "sizes differ"):
                read_conversations(folder)
            with self.assertRaisesRegex(SystemExit, "missing"):
                read_conversations(Path(name) / "nowhere")


class Average(unittest.TestCase):
    def save(self, folder, model):
        for file in ("tokenizer.json", "tokenizer_config.json"):
            (folder / file).write_text("{}")
        checkpoint.export(model, folder / "model", folder, 1, EOS)
        return folder / "model"

    def test_every_weight_is_the_mean(self):
        with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
            folders = [self.save(Path(one), tiny(seed=1)), self.save(Path(two), tiny(seed=2))]
            first, second = (checkpoint.load(folder).state_dict() for folder in folders)
            mean = average(folders).state_dict()
            for name in mean:
                self.assertTrue(torch.allclose(mean[name], (first[name] + second[name]) / 2), name)

    def test_another_shape_is_refused(self):
        with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
            other = LlamaForCausalLM(Config(vocab_size=40, hidden_size=16, intermediate_size=16, num_hidden_layers=1))
            folders = [self.save(Path(one), tiny(seed=1)), self.save(Path(two), other)]
            with self.assertRaisesRegex(SystemExit, "another shape"):
                average(folders)


class Rules(unittest.TestCase):
    def branches(self, **limits):
        return decode(tiny(seed=3).eval(), Words(), PROMPT, max_tokens=150, **limits)

    def test_markers_obey_the_rules(self):
        # A random model never ends by itself, so this walks to the token limit.
        model = tiny(seed=3).eval()
        with torch.no_grad():
            model.model.embed_tokens.weight[FORK] *= 2.5  # tied: the model likes to fork
        branches = decode(model, Words(), PROMPT, max_tokens=150, max_branches=6)
        self.assertGreater(len(branches), 2)
        self.assertLessEqual(len(branches), 6)
        for branch in branches:
            self.assertNotIn(CHILD, branch.ids)
            self.assertNotIn([FORK, FORK], [branch.ids[i : i + 2] for i in range(len(branch.ids))])
            if branch.depth == 2:
                self.assertNotIn(FORK, branch.ids)
        self.assertLessEqual(len(PROMPT) + sum(len(b.ids) for b in branches) + len(branches) - 1, 152)

    def test_forking_off_gives_one_branch(self):
        self.assertEqual(len(self.branches(forking=False)), 1)


class Schedule(unittest.TestCase):
    def test_warm_up_then_cosine(self):
        self.assertAlmostEqual(learning_rate(1.0, 0, 10, 0.0), 0.1)
        self.assertAlmostEqual(learning_rate(1.0, 10, 10, 0.0), 1.0)
        self.assertAlmostEqual(learning_rate(1.0, 99, 10, 1.0), 0.02)
        self.assertAlmostEqual(progress(5, 10, 30, 2), 0.5)
        self.assertAlmostEqual(progress(1, 10, 90, 2), 0.75)
        self.assertAlmostEqual(progress(1, 10, 9e9, 0), 0.1)


if __name__ == "__main__":
    unittest.main()
