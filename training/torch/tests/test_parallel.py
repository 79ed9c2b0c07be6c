"""Two processes under torchrun learn what one learns, because they share each step's batch."""

import json
import os
import subprocess
import sys
import unittest
from pathlib import Path

import torch

from .test_sft import Folder

TORCH = Path(__file__).parents[1]


class Parallel(Folder):
    LENGTH = "--lr 0.003 --steps 8 --warmup-steps 2 --token-init keep --adapter-dtype float32"

    def torchrun(self, name, options):
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "--", "apar_train", "sft"]
        run = subprocess.run([*command, *self.arguments(name, options)], cwd=TORCH, capture_output=True, text=True,
                             env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=300)  # fmt: skip
        self.assertEqual(run.returncode, 0, run.stderr[-3000:])

    def assert_close(self, name, bound):
        one, two = self.weights("one"), self.weights(name)
        self.assertEqual(one.keys(), two.keys())
        for key, value in one.items():
            self.assertLess(float((value.float() - two[key].float()).abs().max()), bound, key)
        losses = [[line["loss"] for line in self.log(run) if "loss" in line] for run in ("one", name)]
        self.assertLess(max(abs(a - b) for a, b in zip(*losses)), 2e-4)
        self.assertLess(losses[1][-1], 0.95 * losses[1][0])
        held_out = [[line["held_out_loss"] for line in self.log(run) if "held_out_loss" in line] for run in ("one", name)]
        self.assertLess(max(abs(a - b) for a, b in zip(*held_out)), 2e-4)

    def test_ddp_with_lora_is_one_process_and_goes_on_as_one(self):
        options = f"--model {self.base} --lora 4 --distillation 0.3 {self.LENGTH}"
        self.sft("one", options)
        self.torchrun("two", options)
        self.assert_close("two", 1e-5)
        self.torchrun("cut", f"{options} --stop-step 3")
        self.sft("cut", f"{options} --resume")
        self.assert_close("cut", 1e-5)

    def test_fsdp_with_every_weight_is_one_process(self):
        options = f"--model {self.base} {self.LENGTH}"
        self.sft("one", options)
        self.torchrun("two", f"{options} --parallel fsdp --checkpoint-activations")
        self.assert_close("two", 0.004)  # the folders are bf16: one place of a weight of 0.5
        state = next((self.root / "two-run").glob("state-*"))
        self.assertEqual(len(list(state.glob("*.distcp"))), 2)
        self.assertEqual(json.loads((state / "position.json").read_text())["step"], 8)
        self.assertTrue(torch.isfinite(torch.stack([w.float().abs().max() for w in self.weights("two").values()])).all())

    def test_fsdp_with_lora_goes_on_where_it_was_cut(self):
        options = f"--model {self.base} --lora 4 --distillation 0.3 {self.LENGTH}"
        self.sft("one", options)
        self.torchrun("two", f"{options} --parallel fsdp --stop-step 4")
        self.torchrun("two", f"{options} --parallel fsdp --resume")
        self.assert_close("two", 1e-5)


if __name__ == "__main__":
    unittest.main()
