"""Runs of `medusa` in one process: heads learn, runs can be cut anywhere, and what they write has the reference's names."""

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
import unittest
from pathlib import Path
from unittest import mock

import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from apar_train.__main__ import main
from apar_train.data.shards import SERIAL, STRUCTURED
from apar_train.errors import InputError
from apar_train.model import frozen
from apar_train.model.frozen import open_frozen
from apar_train.model.medusa_folder import read_heads
from apar_train.run import medusa

from .support import CHILD, EOS, FORK, VOCAB, Segment, example, tiny, write_shards
from .test_sft import Folder

CYCLE = 8
# Of a target in the language below, where nothing is known of what came before.
CHANCE = 1 / CYCLE


def periodic(begin, length):
    """abcdefghabc..., from a letter on."""
    return [97 + (begin + at) % CYCLE for at in range(length)]


def write_periodic(folder):
    """Answers whose text goes round in a circle, with a fork, and their serial copies."""
    examples = []
    for source in range(16):
        prompt = [65, *periodic(source, 3)]
        rest = periodic(source + 3, 12)
        tree = [Segment(prompt, [*rest[:5], FORK], -1), Segment([CHILD], [*periodic(source, 6), EOS], 0), Segment([], [*rest[5:], EOS], 0)]
        examples += [(example(tree, STRUCTURED), source), (example([Segment(prompt, [*rest, EOS], -1)], SERIAL), source)]
    for split in ("train", "test"):
        write_shards(folder / split, examples)


class Heads(Folder):
    def medusa(self, name, options, fails=0, command="medusa"):
        """What was printed: stdout of a run that succeeds, stderr of one that is refused."""
        with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
            self.assertEqual(main([command, *self.arguments(name, options)]), fails, err.getvalue())
        return err.getvalue() if fails else out.getvalue()

    def evaluated(self, heads, options=""):
        words = f"--data {self.data} --model {self.base} --medusa {heads} --dtype float32 --device cpu {options}".split()
        with contextlib.redirect_stdout(io.StringIO()) as out:
            self.assertEqual(main(["evaluate-medusa", *words]), 0)
        return json.loads(out.getvalue())

    def held_out(self, name):
        return [line for line in self.log(name) if "held_out_loss" in line]

    def config(self, name):
        return json.loads((self.root / name / "config.json").read_text())


class Learning(Heads):
    def learn(self, kind, options=""):
        for split in ("train", "test"):
            for file in (self.data / split).iterdir():
                file.unlink()
            (self.data / split).rmdir()
        write_periodic(self.data)
        self.medusa(kind, f"--model {self.base} --kind {kind} --steps 60 --lr 0.01 --eval-steps 30 --batch-tokens 300 {options}")
        first, last = (line for line in self.held_out(kind) if line["step"] in (30, 60))
        for head in (0, 1):
            self.assertGreater(last[f"held_out_head_{head}_top_1"], 4 * CHANCE)
            tops = [last[f"held_out_head_{head}_top_{k}"] for k in (1, 2, 3, 5, 7, 10)]
            self.assertEqual(tops, sorted(tops))
            self.assertLess(last[f"held_out_head_{head}_loss"], 2)  # 5.6 where every token is as likely
        self.assertAlmostEqual(last["held_out_loss"], last["held_out_head_0_loss"] + last["held_out_head_1_loss"], places=3)
        losses = [line["loss"] for line in self.log(kind) if "loss" in line]
        self.assertLess(losses[-1], 0.5 * losses[0])
        for key in ("weighted_loss", "head_0_loss", "head_1_loss", "lr", "grad_norm", "tokens_per_s", "seconds"):
            self.assertIn(key, next(line for line in self.log(kind) if "loss" in line))
        rates = [line["lr"] for line in self.log(kind) if "lr" in line]
        self.assertEqual(rates.index(max(rates)), 5)  # a tenth of the steps
        return last

    def test_shared(self):
        last = self.learn("shared")
        weights = self.weights("shared")
        self.assertEqual(
            {name: tuple(value.shape) for name, value in weights.items()},
            {name: shape for head in (0, 1) for name, shape in ((f"{head}.0.linear.weight", (64, 64)), (f"{head}.0.linear.bias", (64,)))},
        )
        self.assertEqual({value.dtype for value in weights.values()}, {torch.bfloat16})
        config = self.config("shared")
        self.assertEqual((config["medusa_num_heads"], config["medusa_num_layers"]), (2, 1))
        self.assertEqual((config["hidden_size"], config["vocab_size"], config["tie_lm_head"]), (64, VOCAB, True))
        self.assertEqual(config["base_model_name_or_path"], str(self.base))
        # The folder is bf16, so a few targets may change.
        found = self.evaluated(self.root / "shared")
        for head in (0, 1):
            self.assertAlmostEqual(found[f"head_{head}_top_1"], last[f"held_out_head_{head}_top_1"], delta=0.02)
            self.assertAlmostEqual(found[f"head_{head}_loss"], last[f"held_out_head_{head}_loss"], delta=0.05)
        self.assertEqual(set(found["by_kind"]), {"structured", "serial"})
        self.assertEqual((found["examples"], found["of"], found["heads"]), (32, 32, 2))

    def test_conditioned(self):
        last = self.learn("conditioned", "--draft-vocab 128")
        weights = self.weights("conditioned")
        self.assertEqual(weights.keys() - {f"{head}.0.linear.{part}" for head in (0, 1) for part in ("weight", "bias")}, {"next_token.weight"})
        self.assertEqual((weights["next_token.weight"].shape, weights["next_token.weight"].dtype), ((64, 64), torch.bfloat16))
        config = self.config("conditioned")
        self.assertEqual((config["tie_lm_head"], config["reads_next_token"], config["vocab_size"]), (True, True, 128))
        found = self.evaluated(self.root / "conditioned")
        for head in (0, 1):
            self.assertAlmostEqual(found[f"head_{head}_top_1"], last[f"held_out_head_{head}_top_1"], delta=0.02)
            self.assertAlmostEqual(found[f"head_{head}_loss"], last[f"held_out_head_{head}_loss"], delta=0.05)

    def test_own(self):
        self.learn("own", "--layers 2 --dtype bfloat16")
        weights = self.weights("own")
        self.assertEqual(len(weights), 2 * (2 * 2 + 1))
        self.assertEqual((weights["1.2.weight"].shape, weights["0.1.linear.bias"].shape), ((VOCAB, 64), (64,)))
        self.assertIs(self.config("own")["tie_lm_head"], False)
        # Published heads are a file of torch, in which two residual layers share one weight.
        published = self.root / "published"
        published.mkdir()
        (published / "config.json").write_text(json.dumps({"medusa_num_heads": 2, "medusa_num_layers": 2}))
        for head in (0, 1):
            for part in ("weight", "bias"):
                weights[f"{head}.1.linear.{part}"] = weights[f"{head}.0.linear.{part}"]
        torch.save(weights, published / "medusa_lm_head.pt")
        self.assertIn("head_1_top_10", self.evaluated(published))


class Resume(Heads):
    def options(self, kind="own"):
        return f"--model {self.base} --kind {kind} --heads 3 --lr 0.01 --steps 8 --save-steps 2 --eval-steps 4"

    def lines(self, name):
        timed = ("seconds", "tokens_per_s")
        return [{k: v for k, v in line.items() if k not in timed} for line in self.log(name) if "event" not in line]

    def test_cut_in_the_middle_of_a_step_and_gone_on_with(self):
        for kind in ("own", "conditioned"):
            self.medusa(f"{kind}-unbroken", self.options(kind))
            true_states = medusa.hidden_states
            calls = {"left": 0}

            def dies(*args):
                calls["left"] -= 1
                if calls["left"] == 0:
                    raise KeyboardInterrupt
                return true_states(*args)

            with mock.patch.object(medusa, "hidden_states", dies):
                for cut in (2, 9):
                    calls["left"] = cut
                    with self.assertRaises(KeyboardInterrupt):
                        self.medusa(f"{kind}-cut", f"{self.options(kind)} --resume")
            self.medusa(f"{kind}-cut", f"{self.options(kind)} --resume")
            self.assert_same(self.weights(f"{kind}-unbroken"), self.weights(f"{kind}-cut"))
            self.assertEqual(self.lines(f"{kind}-unbroken"), self.lines(f"{kind}-cut"))
            self.assertGreaterEqual(len([line for line in self.log(f"{kind}-cut") if "event" in line]), 2)

    def test_other_heads_than_before_are_refused(self):
        self.medusa("run", f"{self.options()} --stop-step 2")
        self.assertIn("--heads 3, not 2", self.medusa("run", f"{self.options()} --resume --heads 2", fails=2))
        self.assertIn("--kind own, not shared", self.medusa("run", f"{self.options()} --resume --kind shared", fails=2))


class Adapters(Heads):
    def test_an_adapter_is_merged_and_stays_as_it_is(self):
        self.sft("adapter", f"--model {self.base} --lora 4 --lr 0.01 --token-lr 0.05 --steps 6 --warmup-steps 2 --adapter-dtype float32")
        adapter = self.root / "adapter"
        before = self.weights("adapter")
        self.medusa("heads", f"--model {self.base} --adapter {adapter} --base-name owner/base --steps 3 --lr 0.01")
        self.assert_same(before, self.weights("adapter"))
        self.assertEqual(self.config("heads")["base_model_name_or_path"], "owner/base")
        merged = open_frozen(str(self.base), adapter, self.data / "model", VOCAB, torch.float32)
        ids = torch.tensor([[65, 100, 97, FORK, CHILD, 98]])
        adapted = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(self.base, dtype=torch.float32), str(adapter))
        with torch.no_grad():
            self.assertTrue(torch.allclose(merged(ids).logits, adapted(ids).logits, atol=1e-4))
            plain = open_frozen(str(self.base), None, self.data / "model", VOCAB, torch.float32)
            self.assertFalse(torch.allclose(merged(ids).logits, plain(ids).logits, atol=1e-2))
        with_it = self.evaluated(self.root / "heads", f"--adapter {adapter}")
        without = self.evaluated(self.root / "heads")
        self.assertNotEqual(with_it["head_0_loss"], without["head_0_loss"])


class Refusals(Heads):
    def test_what_cannot_be_trained_is_refused_in_one_sentence(self):
        base = f"--model {self.base}"
        (self.root / "empty").mkdir()
        small = self.root / "small"
        tiny(vocab_size=VOCAB - 8).save_pretrained(small)
        for options, reason in (
            (base, "invalid_request: say how long"),
            ("--model none --steps 2", "invalid_request: --model none"),
            (f"--model {self.root}/nothing --steps 2", "no such folder or file"),
            (f"--model {self.root}/empty --steps 2", "broken_checkpoint"),
            (f"--model {small} --steps 2", f"invalid_request: --model {small}: has {VOCAB - 8} tokens, the data have {VOCAB}"),
            (f"{base} --adapter {self.root}/empty --steps 2", "has no adapter_config.json"),
            (f"{base} --steps 2 --context 3", "--context 3"),
            (f"{base} --steps 2 --kind own --draft-vocab 100", "--draft-vocab"),
        ):
            with self.subTest(options):
                self.assertIn(reason, self.medusa("refused", options, fails=2))
        self.assertFalse((self.root / "refused").exists())
        for options in ("--heads 1", "--heads 9", "--kind other", "--layers 0", "--layers 9"):
            with self.subTest(options), self.assertRaises(SystemExit), contextlib.redirect_stderr(io.StringIO()):
                main(["medusa", *self.arguments("refused", f"{base} --steps 2 {options}")])

    def test_a_model_whose_logits_are_more_than_a_product(self):
        true_states = frozen.hidden_states
        with mock.patch.object(frozen, "hidden_states", lambda *args: 1.1 * true_states(*args)):
            printed = self.medusa("refused", f"--model {self.base} --steps 2", fails=2)
        self.assertIn("unsupported_checkpoint: LlamaForCausalLM: its logits are no product", printed)

    def test_folders_that_do_not_fit_the_model(self):
        self.medusa("heads", f"--model {self.base} --steps 1")
        folder, lm_head = self.root / "heads", tiny().lm_head.weight
        read_heads(folder, lm_head, lm_head)
        config = self.config("heads")
        for changes, reason in (
            ({"medusa_num_heads": 3}, "has no tensor 2.0.linear.weight"),
            ({"tie_lm_head": False, "reads_next_token": False}, "has no tensor 0.1.weight"),
            ({"medusa_num_layers": 2}, "has no tensor 0.1.linear.weight"),
            ({"medusa_num_heads": "x"}, "is no config.json of Medusa heads"),
            ({"medusa_num_heads": 0}, "0 heads"),
            ({"vocab_size": "x"}, "is no config.json of Medusa heads"),
            ({"vocab_size": -5}, "draft -5 of"),
        ):
            (folder / "config.json").write_text(json.dumps({**config, **changes}))
            self.assert_refused(folder, reason, lm_head)
        (folder / "config.json").write_text(json.dumps(config))
        self.assert_refused(folder, r"has shape \[64, 64\], the model asks for \[32, 32\]", lm_head[:, :32])
        (folder / "medusa_lm_head.safetensors").write_bytes(b"12345678")
        self.assert_refused(folder, "heads: ", lm_head)
        (folder / "medusa_lm_head.safetensors").unlink()
        self.assert_refused(folder, "medusa_lm_head.pt", lm_head)
        (folder / "medusa_lm_head.pt").write_bytes(b"not a pickle")
        self.assert_refused(folder, "medusa_lm_head.pt", lm_head)

    def test_heads_from_before_the_two_tokens_were_added(self):
        """As the reference publishes them: torch's file, a plain config.json, and rows for the base's own tokens."""
        self.medusa("heads", f"--model {self.base} --kind own --steps 1")
        published = self.root / "published"
        published.mkdir()
        tensors = load_file(self.root / "heads" / "medusa_lm_head.safetensors")
        for head in (0, 1):
            tensors[f"{head}.1.weight"] = tensors[f"{head}.1.weight"][:FORK].clone()
        torch.save(tensors, published / "medusa_lm_head.pt")
        (published / "config.json").write_text(json.dumps({"medusa_num_heads": 2, "medusa_num_layers": 1}))
        found = self.evaluated(published)
        self.assertEqual(found["heads"], 2)
        for head in (0, 1):
            self.assertTrue(0 < found[f"head_{head}_loss"] < 20)
        self.assert_refused(published, r"0\.1\.weight has shape", tiny(vocab_size=FORK + 1025).lm_head.weight)

    def test_a_folder_of_something_else_is_not_replaced(self):
        for field in ("branching", "medusa_num_layers"):
            folder = self.root / field
            folder.mkdir()
            (folder / "config.json").write_text(json.dumps({field: 1}))
            printed = self.medusa(field, f"--model {self.base} --steps 1", fails=2)
            self.assertIn("foreign_folder: --out: ", printed)
            self.assertEqual(os.listdir(folder), ["config.json"])
        self.medusa("again", f"--model {self.base} --steps 1")
        shutil.rmtree(self.root / "again-run")
        self.medusa("again", f"--model {self.base} --steps 1")

    def test_nothing_can_be_measured_without_examples(self):
        meta = self.data / "test" / "meta.json"
        meta.write_text(json.dumps({**json.loads(meta.read_text()), "shards": []}))
        words = f"--data {self.data} --model {self.root}/nothing --medusa {self.root}/nothing --device cpu".split()
        for command in (["evaluate-loss", *words[:4]], ["evaluate-medusa", *words]):
            with contextlib.redirect_stderr(io.StringIO()) as err:
                self.assertEqual(main(command), 2)
            self.assertRegex(err.getvalue(), "^data_too_small: .*has no examples")

    def assert_refused(self, folder, reason, lm_head):
        with self.assertRaisesRegex(InputError, reason) as caught:
            read_heads(folder, lm_head, lm_head)
        self.assertEqual(caught.exception.code, "broken_checkpoint")


class Parallel(Heads):
    def test_two_processes_learn_what_one_learns(self):
        options = f"--model {self.base} --kind own --steps 6 --lr 0.01"
        self.medusa("one", options)
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "--", "apar_train", "medusa"]
        run = subprocess.run([*command, *self.arguments("two", options)], cwd=Path(__file__).parents[1], capture_output=True, text=True,
                             env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=300)  # fmt: skip
        self.assertEqual(run.returncode, 0, run.stderr[-3000:])
        one, two = self.weights("one"), self.weights("two")
        for name, value in one.items():
            self.assertLess(float((value.float() - two[name].float()).abs().max()), 0.005, name)  # a place of bf16
        losses = [[line["loss"] for line in self.log(name) if "loss" in line] for name in ("one", "two")]
        self.assertLess(max(abs(a - b) for a, b in zip(*losses)), 1e-3)
        tops = [[line["held_out_head_0_top_1"] for line in self.held_out(name)] for name in ("one", "two")]
        self.assertLess(max(abs(a - b) for a, b in zip(*tops)), 0.02)


if __name__ == "__main__":
    unittest.main()
