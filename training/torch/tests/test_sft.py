"""Runs of `sft` in one process: they learn, they can be cut anywhere, and what they write can be opened."""

import contextlib
import errno
import io
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from peft import PeftModel
from safetensors.torch import load_file
from torch.distributed.checkpoint import FileSystemReader
from torch.distributed.checkpoint.api import CheckpointException
from transformers import AutoModelForCausalLM

from apar_train.__main__ import main
from apar_train.data.shards import Shards
from apar_train.run import sft, state
from apar_train.run.evaluate_loss import by_kind
from apar_train.run.notes import progress_line

from .support import BRANCHING, CHILD, FORK, META, conversation, tiny, write_build, write_shards

SHORT = "--batch-tokens 150 --pack-tokens 60 --dtype float32 --threads 1 --device cpu --log-steps 1 --eval-steps 4"


class Folder(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name)
        self.data = write_build(self.root / "data")
        self.base = self.root / "base"
        tiny().save_pretrained(self.base)

    def arguments(self, name, options):
        return [*f"--data {self.data} --out {self.root / name} --run {self.root / name}-run {SHORT} {options}".split()]

    def sft(self, name, options, fails=0):
        """What was printed to stderr."""
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as printed:
            self.assertEqual(main(["sft", *self.arguments(name, options)]), fails, printed.getvalue())
        return printed.getvalue()

    def log(self, name):
        return [json.loads(line) for line in (self.root / f"{name}-run" / "log.jsonl").read_text().splitlines()]

    def weights(self, name):
        return load_file(next((self.root / name).glob("*.safetensors")))

    def assert_same(self, a, b):
        self.assertEqual(a.keys(), b.keys())
        for name, value in a.items():
            self.assertTrue(torch.equal(value, b[name]), name)


class Learning(Folder):
    def test_a_model_from_nothing_learns_to_fork(self):
        self.sft("model", "--model none --steps 60 --lr 0.01 --warmup-steps 5 --eval-steps 20")
        lines = self.log("model")
        losses = [line["loss"] for line in lines if "loss" in line]
        self.assertGreater(losses[0], 5)
        self.assertLess(losses[-1], 0.7 * losses[0])
        held_out = [line for line in lines if "held_out_loss" in line]
        self.assertEqual([line["step"] for line in held_out], [20, 40, 60])
        self.assertLess(held_out[-1]["held_out_fork_loss"], 1.5)  # 5.6 where every token is as likely
        for key in ("weighted_loss", "fork_loss", "eos_loss", "structured_loss", "lr", "grad_norm", "tokens_per_s", "seconds"):
            self.assertIn(key, next(line for line in lines if "structured_loss" in line and "fork_loss" in line))
        folder = self.root / "model"
        config = json.loads((folder / "config.json").read_text())
        self.assertEqual((config["branching"], config["dtype"]), (BRANCHING, "bfloat16"))
        for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
            self.assertEqual((folder / name).read_bytes(), (self.data / "model" / name).read_bytes())
        self.assertNotIn("lm_head.weight", self.weights("model"))
        opened = AutoModelForCausalLM.from_pretrained(folder)
        self.assertTrue(torch.isfinite(opened(torch.tensor([[65, 97]])).logits).all())

    def test_every_weight_of_a_folder(self):
        options = f"--model {self.base} --lr 0.002 --steps 15 --warmup-steps 2 --token-init keep"
        self.sft("tuned", f"{options} --checkpoint-activations --dtype bfloat16")
        losses = [line["loss"] for line in self.log("tuned") if "loss" in line]
        self.assertLess(losses[-1], 0.8 * losses[0])

    def test_lora_trains_the_adapter_and_the_two_rows_only(self):
        self.sft("adapter", f"--model {self.base} --lora 4 --lr 0.01 --token-lr 0.05 --steps 30 --warmup-steps 2 --adapter-dtype float32")
        losses = [line["loss"] for line in self.log("adapter") if "loss" in line]
        self.assertLess(losses[-1], 0.85 * losses[0])
        weights = self.weights("adapter")
        rows = [name for name in weights if "lora" not in name]
        self.assertEqual(rows, ["base_model.model.model.embed_tokens.token_adapter.trainable_tokens_delta"])
        settings = json.loads((self.root / "adapter" / "adapter_config.json").read_text())
        self.assertEqual(settings["trainable_token_indices"], {"embed_tokens": [FORK, CHILD]})
        self.assertEqual(settings["base_model_name_or_path"], str(self.base))
        self.assertEqual(json.loads((self.root / "adapter" / "config.json").read_text())["branching"], BRANCHING)
        # transformers and peft open it as it is, and peft's own arithmetic gives what the trainer's gave.
        ids = torch.tensor([[65, 100, 97, FORK, CHILD, 98]])
        opened = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(self.base), str(self.root / "adapter"))
        with torch.no_grad():
            logits = opened(ids).logits
            merged = opened.merge_and_unload()(ids).logits
        self.assertTrue(torch.allclose(logits, merged, atol=1e-4))
        found = self.evaluate("--adapter", str(self.root / "adapter"))
        held_out = [line for line in self.log("adapter") if "held_out_loss" in line][-1]
        for name in ("loss", "fork_loss", "eos_loss", "unstructured_loss"):
            self.assertAlmostEqual(found[name], held_out[f"held_out_{name}"], places=3)
        self.assertEqual(found["branch_text"]["share_compared"], 1)

    def evaluate(self, *more):
        paths = ["--data", str(self.data), "--model", str(self.base), *more]
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            self.assertEqual(main(["evaluate-loss", *paths, "--dtype", "float32", "--device", "cpu"]), 0)
        return json.loads(printed.getvalue())

    def test_a_loss_that_is_no_number_is_shown(self):
        shards = Shards(self.data / "test")
        broken = {0: np.full(int(shards[0].learned.sum()), np.nan)}
        for left_out in ((), (FORK, CHILD)):
            self.assertTrue(math.isnan(by_kind(shards, broken, left_out)["loss"]))

    def test_losses_of_a_folder_without_an_adapter(self):
        with contextlib.redirect_stderr(io.StringIO()) as said:
            paths = ["--data", str(self.data), "--model", str(self.base), "--adapter", str(self.data)]
            self.assertEqual(main(["evaluate-loss", *paths, "--device", "cpu"]), 2)
        self.assertIn("has no adapter_config.json", said.getvalue())

    def test_a_base_reads_branches_without_markers(self):
        given, read = self.evaluate(), self.evaluate("--without-markers")
        # Serial text has none. Of branches the same tokens are compared, which now have something else before them.
        self.assertEqual(read["serial_loss"], given["serial_loss"])
        self.assertNotIn("fork_loss", read)
        self.assertEqual(read["branch_text"]["tokens"], given["branch_text"]["tokens"])
        self.assertEqual(read["branch_text"]["serial_loss"], given["branch_text"]["serial_loss"])
        self.assertNotEqual(read["branch_text"]["loss"], given["branch_text"]["loss"])


class Resume(Folder):
    LENGTH = "--lora 4 --lora-dropout 0.1 --lr 0.01 --steps 9 --warmup-steps 2 --save-steps 2 --adapter-dtype float32"

    def options(self):
        return f"--model {self.base} {self.LENGTH}"

    def losses(self, name):
        timed = ("seconds", "tokens_per_s")
        return [{k: v for k, v in line.items() if k not in timed} for line in self.log(name) if "event" not in line]

    def check(self, name, unbroken="unbroken"):
        self.assert_same(self.weights(unbroken), self.weights(name))
        self.assertEqual(self.losses(unbroken), self.losses(name))
        states = list((self.root / f"{name}-run").glob("state-*"))
        self.assertEqual([state.name for state in states], ["state-00000009"])
        stored = FileSystemReader(states[0]).read_metadata().state_dict_metadata
        weights = [key for key in stored if key.startswith("model.")]
        self.assertTrue(weights and all("lora_" in key or "trainable_tokens" in key for key in weights), weights)

    def test_cut_in_the_middle_of_a_step_and_gone_on_with(self):
        self.sft("unbroken", self.options())
        calls = {"left": 0}
        true_losses = sft.token_losses

        def dies(*args):
            calls["left"] -= 1
            if calls["left"] == 0:
                raise KeyboardInterrupt
            return true_losses(*args)

        with mock.patch.object(sft, "token_losses", dies):
            for cut in (2, 8, 15):
                calls["left"] = cut
                with self.assertRaises(KeyboardInterrupt):
                    self.sft("cut", f"{self.options()} --resume")
        self.sft("cut", f"{self.options()} --resume")
        self.check("cut")
        self.assertGreaterEqual(len([line for line in self.log("cut") if "event" in line]), 2)

    def test_stopped_and_gone_on_with_every_weight(self):
        options = f"--model {self.base} --lr 0.001 --steps 6 --warmup-steps 2"
        self.sft("whole", options)
        self.sft("parts", f"{options} --stop-step 3")
        self.sft("parts", f"{options} --resume")
        self.assert_same(self.weights("whole"), self.weights("parts"))

    def test_killed_while_it_saves(self):
        self.sft("unbroken", self.options())
        run = self.root / "killed-run"
        for _ in range(2):
            command = [sys.executable, "-m", "apar_train", "sft", *self.arguments("killed", f"{self.options()} --resume --save-steps 1")]
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            seen = len(list(run.glob("state-*")))
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline and process.poll() is None:
                if len(list(run.glob("state-*.part"))) and len(list(run.glob("state-*"))) > seen:
                    break
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
        self.sft("killed", f"{self.options()} --resume")
        self.check("killed")

    def test_the_state_before_is_used_when_the_newest_is_not_whole(self):
        self.sft("unbroken", self.options())
        self.sft("cut", f"{self.options()} --stop-step 6")
        run = self.root / "cut-run"
        self.assertEqual(sorted(path.name for path in run.glob("state-*")), ["state-00000004", "state-00000006"])
        stored = max((run / "state-00000006").iterdir(), key=lambda path: path.stat().st_size)
        os.truncate(stored, stored.stat().st_size // 2)
        self.assertIn("state-00000006: is not whole", self.sft("cut", f"{self.options()} --resume"))
        self.assertEqual(next(line["step"] for line in self.log("cut") if line.get("event") == "resumed"), 4)
        self.check("cut")

    def test_no_state_is_whole(self):
        self.sft("cut", f"{self.options()} --stop-step 2")
        (self.root / "cut-run" / "state-00000002" / "position.json").write_text("{")
        self.assertIn("there is no other: begin another run", self.sft("cut", f"{self.options()} --resume", fails=2))

    def test_a_full_disk_leaves_the_state_before(self):
        self.sft("full", f"{self.options()} --stop-step 2")
        for error in (OSError(errno.ENOSPC, "No space left on device"), CheckpointException("save", {0: (OSError(errno.ENOSPC, ""), None)})):
            with mock.patch.object(state.dcp, "save", side_effect=error):
                self.assertIn("disk_full: ", self.sft("full", f"{self.options()} --resume", fails=2))
        self.assertEqual([path.name for path in (self.root / "full-run").glob("state-*")], ["state-00000002"])
        self.sft("full", f"{self.options()} --resume")

    def test_data_that_were_built_again_are_other_data(self):
        self.sft("run", f"{self.options()} --stop-step 2")
        shutil.rmtree(self.data)
        write_build(self.data, conversations=7)
        self.assertIn("was built again", self.sft("run", f"{self.options()} --resume", fails=2))

    def test_a_run_is_gone_on_with_by_the_options_it_was_begun_with(self):
        self.sft("run", f"{self.options()} --stop-step 2")
        self.assertIn("--resume, or another --run", self.sft("run", self.options(), fails=2))
        self.assertIn("--seed 1, not 2", self.sft("run", f"{self.options()} --resume --seed 2", fails=2))
        self.sft("run", f"{self.options()} --resume --stop-step 3 --save-minutes 9")


class Progress(Folder):
    def test_a_line_is_printed_with_each_line_of_the_log(self):
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            self.assertEqual(main(["sft", *self.arguments("run", f"--model {self.base} --lora 4 --steps 4 --log-steps 2")]), 0)
        lines = printed.getvalue().splitlines()
        pattern = r"step %d/4  loss \d+\.\d{4}  [\d,]+ tokens/s  0:00:\d\d left"
        self.assertRegex(lines[-2], pattern % 2)
        self.assertRegex(lines[-1], (pattern % 4).replace(r"\d\d left", "00 left"))

    def test_a_run_by_the_clock_has_no_number_of_steps(self):
        line = {"weighted_loss": 2, "tokens_per_s": 1234}
        self.assertEqual(progress_line(5, math.inf, line, 3725.4), "step 5  loss 2.0000  1,234 tokens/s  1:02:05 left")


class Refusals(Folder):
    def test_too_few_data_are_refused_before_the_model_is_opened(self):
        structured = [(conversation(np.random.default_rng(0), 2)[0], 0)]
        plain = [(conversation(np.random.default_rng(0), 0)[0], source) for source in range(9)]
        options = f"--model {self.root}/nothing --steps 2"
        for name, train, test, more, reason in (
            ("unstructured", plain, plain, "--batch-tokens 10", "no structured answers"),
            ("few", structured + plain, plain, "--batch-examples 20", "10 examples are fewer"),
            ("short", structured, plain, "", "tokens are fewer than one step takes (--batch-tokens 150)"),
            ("all", structured + plain, None, "--batch-tokens 10", "no held-out examples"),
        ):
            with self.subTest(name):
                folder = self.root / name
                write_shards(folder / "train", train)
                if test:
                    write_shards(folder / "test", test)
                printed = self.sft("refused", f"{options} {more} --data {folder}", fails=2)
                self.assertRegex(printed, f"^data_too_small: .*{re.escape(reason)}")
        # Each of them can be asked for.
        (self.root / "nothing").mkdir()
        for name, more in (("unstructured", "--structured-share 0"), ("all", "--eval-examples 0")):
            self.assertIn("broken_checkpoint", self.sft("refused", f"{options} {more} --batch-tokens 10 --data {self.root / name}", fails=2))

    def test_a_folder_that_is_no_model_of_a_run_is_left_as_it_is(self):
        out = self.root / "refused"
        out.mkdir()
        (out / "notes.txt").write_text("mine")
        self.assertIn("foreign_folder: ", self.sft("refused", f"--model {self.base} --steps 2", fails=2))
        self.assertEqual([path.name for path in out.iterdir()], ["notes.txt"])

    def test_what_cannot_be_trained_is_refused_in_one_sentence(self):
        base = f"--model {self.base}"
        (self.root / "empty").mkdir()
        for options, reason in (
            (base, "--steps, --epochs or --minutes"),
            (f"{base} --steps 2 --token-lr 1", "--token-lr needs --lora"),
            (f"{base} --steps 2 --distillation 0.5", "--distillation needs --lora"),
            (f"--model {self.root}/nothing --steps 2", "no such folder or file"),
            (f"--model {self.root}/empty --steps 2", "broken_checkpoint"),
            (f"--model {self.data}/train/meta.json --steps 2", "neither a folder nor a GGUF file"),
            (f"{base} --steps 2 --attention flex", "no backward pass on a CPU"),
            (f"{base} --steps 2 --context 3", "--context 3"),
        ):
            with self.subTest(options):
                self.assertIn(reason, self.sft("refused", options, fails=2))
        self.assertFalse((self.root / "refused").exists())


class Rows(Folder):
    def test_new_rows_begin_as_copies_of_newline_and_space(self):
        from apar_train.model.token_rows import begin_rows, rows_to_copy

        newline, space = rows_to_copy(META, self.data / "model").values()
        for tied in (True, False):
            model = tiny(tie_word_embeddings=tied)
            begin_rows(model, META, self.data / "model", 0.0)
            for weight in (model.get_input_embeddings().weight, model.get_output_embeddings().weight):
                self.assertTrue(torch.equal(weight[FORK], weight[newline]))
                self.assertTrue(torch.equal(weight[CHILD], weight[space]))
        begin_rows(model, META, self.data / "model", 0.01)
        difference = model.get_input_embeddings().weight[FORK] - model.get_input_embeddings().weight[newline]
        self.assertAlmostEqual(float(difference.std()), 0.01, delta=0.005)

    def test_an_untied_head_has_rows_of_its_own(self):
        tiny(tie_word_embeddings=False).save_pretrained(self.base)
        self.sft("adapter", f"--model {self.base} --lora 4 --lr 0.01 --steps 3 --warmup-steps 1")
        settings = json.loads((self.root / "adapter" / "adapter_config.json").read_text())
        self.assertEqual(settings["trainable_token_indices"], {"embed_tokens": [FORK, CHILD], "lm_head": [FORK, CHILD]})
        self.assertEqual(len([name for name in self.weights("adapter") if "trainable_tokens" in name]), 2)


if __name__ == "__main__":
    unittest.main()
