import json
import math
import tempfile
import unittest
from pathlib import Path

import numpy as np

from apar_train.data.mixing import Mixture, Shares
from apar_train.data.packing import first_fit
from apar_train.data.shards import SERIAL, STRUCTURED, UNSTRUCTURED, Shards
from apar_train.errors import InputError
from apar_train.run.schedule import learning_rate, progress

from .support import conversation, write_build, write_shards


class Read(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name) / "train"
        self.tree, self.serial = conversation(np.random.default_rng(1), 3)
        write_shards(self.folder, [(self.tree, 4), (self.serial, 4)])

    def test_what_was_written(self):
        shards = Shards(self.folder)
        self.assertEqual(len(shards), 2)
        for each, wanted in zip((shards[0], shards[1]), (self.tree, self.serial)):
            for name in ("ids", "learned", "starts", "parents", "kind"):
                self.assertTrue(np.array_equal(getattr(each, name), getattr(wanted, name)), name)
        self.assertEqual(shards.kinds.tolist(), [STRUCTURED, SERIAL])
        self.assertEqual(shards.sources.tolist(), [4, 4])
        self.assertEqual(shards.tokens.tolist(), [len(self.tree), len(self.serial)])
        self.assertEqual(shards.paths.tolist(), [int(self.tree.depths().max()) + 1, len(self.serial)])

    def test_positions_run_on_along_the_path(self):
        depths = self.tree.depths()
        starts = self.tree.starts
        self.assertEqual(depths[starts[1]], starts[1])  # the first detail follows the fork
        self.assertEqual(depths[starts[2]], starts[1])  # so does the rest of the main text

    def test_damaged_files_are_refused(self):
        def numbers(name, change):
            path = self.folder / f"00000.{name}"
            values = np.fromfile(path, "<u2" if name == "tokens" else "u1" if name == "learned" else "<u4")
            change(values)
            values.tofile(path)

        def cut(name):
            path = self.folder / f"00000.{name}"
            path.write_bytes(path.read_bytes()[:-1])

        def meta(**changes):
            path = self.folder / "meta.json"
            path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

        def put(at, value):
            def change(values):
                values[at] = value

            return change

        cases = {
            "does not have the": [lambda name=name: cut(name) for name in ("tokens", "learned", "segments", "examples")],
            "is not below vocab_size": [lambda: numbers("tokens", put(3, 60000))],
            "which nothing predicts": [lambda: numbers("learned", put(0, 1))],
            "does not come before it": [lambda: numbers("segments", put(5, 1)), lambda: numbers("segments", put(5, 77))],
            "do not lie one after the other": [lambda: numbers("segments", put(3, 0))],
            "is empty or lies outside": [lambda: numbers("segments", put(1, 0)), lambda: numbers("segments", put(1, 4_000_000_000))],
            "has no segments, others": [lambda: numbers("examples", put(1, 0)), lambda: numbers("examples", put(1, 4_000_000_000)),
                                        lambda: numbers("examples", put(2, 3))],
            "do not take the segments in their order": [lambda: numbers("examples", put(4, 0))],
            "version 2": [lambda: meta(version=1)],
            "no ids below vocab_size": [lambda: meta(fork=4096), lambda: meta(eos=["x"])],
            "tokens or shards": [lambda: meta(tokens="uint8")],
            "is no name of a shard": [lambda: meta(shards=[{"name": "../x"}])],
            "does not say how many": [lambda: meta(shards=[{"name": "00000", "examples": -1}])],
            "is missing": [lambda: (self.folder / "meta.json").unlink()],
        }  # fmt: skip
        before = {path: path.read_bytes() for path in self.folder.iterdir()}
        for message, damages in cases.items():
            for damage in damages:
                with self.subTest(message):
                    damage()
                    with self.assertRaisesRegex(InputError, message):
                        Shards(self.folder)
                    for path, content in before.items():
                        path.write_bytes(content)


class Draw(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.shards = Shards(write_build(Path(folder.name) / "build") / "train")

    def mixture(self, structured=0.5, serial=0.1, context=1000, room=100, seed=1):
        return Mixture(self.shards, Shares(structured, serial), context, room, seed)

    def kinds_of(self, packs):
        return self.shards.kinds[[index for pack in packs for index in pack]]

    def test_a_step_is_drawn_by_the_seed_and_its_number(self):
        first, second = self.mixture(), self.mixture()
        self.assertEqual(first.draw(7, 500, None), second.draw(7, 500, None))
        self.assertNotEqual(first.draw(7, 500, None), first.draw(8, 500, None))
        self.assertNotEqual(first.draw(7, 500, None), self.mixture(seed=2).draw(7, 500, None))

    def test_kinds_have_their_shares_and_examples_return(self):
        packs = self.mixture().draw(0, 0, 4000)
        kinds = self.kinds_of(packs)
        self.assertEqual(len(kinds), 4000)
        for kind, share in ((STRUCTURED, 0.45), (SERIAL, 0.1), (UNSTRUCTURED, 0.45)):
            self.assertAlmostEqual(float((kinds == kind).mean()), share, delta=0.03)

    def test_a_batch_ends_with_the_draw_that_fills_it(self):
        mixture = self.mixture()
        for step in range(20):
            chosen = [index for pack in mixture.draw(step, 300, None) for index in pack]
            tokens = int(self.shards.tokens[chosen].sum())
            self.assertTrue(300 <= tokens < 300 + self.shards.tokens.max())

    def test_what_does_not_fit_is_left_out_and_counted(self):
        longest = int(self.shards.tokens.max())
        mixture = self.mixture(room=longest - 1)
        self.assertGreater(mixture.left_out, 0)
        for pack in mixture.draw(0, 2000, None):
            self.assertLess(int(self.shards.tokens[pack].sum()), longest)
        short = self.mixture(context=12)
        for pack in short.draw(0, 500, None):
            self.assertLessEqual(int(self.shards.paths[pack].max()), 12)
        with self.assertRaisesRegex(InputError, "--context 1"):
            self.mixture(context=1)

    def test_a_kind_that_is_missing_leaves_its_share_to_the_others(self):
        kinds = self.kinds_of(self.mixture(structured=1, serial=0.5).draw(0, 0, 500))
        self.assertEqual(set(kinds.tolist()), {STRUCTURED, SERIAL})


class FirstFit(unittest.TestCase):
    def test_packs_are_filled_the_longest_first(self):
        self.assertEqual(first_fit([3, 9, 4, 2, 1], 10), [[1, 4], [2, 0, 3]])

    def test_what_is_too_long_is_alone(self):
        self.assertEqual(first_fit([3, 12], 10), [[1], [0]])


class Schedule(unittest.TestCase):
    def test_warm_up_then_cosine(self):
        self.assertAlmostEqual(learning_rate(1.0, 0, 10, 0.0), 0.1)
        self.assertAlmostEqual(learning_rate(1.0, 10, 10, 0.0), 1.0)
        self.assertAlmostEqual(learning_rate(1.0, 99, 10, 1.0), 0.02)
        self.assertAlmostEqual(learning_rate(1.0, 99, 10, 1.0, floor=0.5), 0.5)

    def test_steps_or_the_clock_end_a_run(self):
        self.assertAlmostEqual(progress(5, 10, 30, 2), 0.5)
        self.assertAlmostEqual(progress(1, 10, 90, 2), 0.75)
        self.assertAlmostEqual(progress(1, 10, 9e9, 0), 0.1)
        self.assertAlmostEqual(progress(5, math.inf, 30, 2), 0.25)


if __name__ == "__main__":
    unittest.main()
