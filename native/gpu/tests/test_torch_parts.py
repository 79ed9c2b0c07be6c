"""The parts that run PyTorch or measure with it, at tiny sizes on the CPU, and their results where PyTorch is
missing."""

import importlib.util
import json
import os
import sys
import types
import unittest
from unittest import mock

from verification.models.llama import Shape
from verification.part import Failed, Skipped
from verification.parts import floors, loading, peer, training

from .support import OnePart

TORCH = importlib.util.find_spec("torch") is not None
if TORCH:
    import torch

    torch.set_num_threads(1)  # other tests run at the same time
elif os.environ.get("CI") == "true":
    raise RuntimeError("PyTorch is not installed (apar train python makes an environment with it)")
else:
    print("PyTorch is not installed: the parts that need it are not tested", file=sys.stderr)
needs_torch = unittest.skipUnless(TORCH, "PyTorch is not installed")
TRAINER = all(importlib.util.find_spec(name) for name in ("torch", "transformers", "peft", "gguf"))
if TORCH and not TRAINER:
    print("transformers, peft or gguf is not installed: the part that times the trainer is not tested", file=sys.stderr)
needs_trainer = unittest.skipUnless(TRAINER, "transformers, peft or gguf is not installed")

SHAPES = [
    Shape(vocab=50, hidden=32, inner=48, layers=2, heads=4, kv_heads=4, head_dim=8, context=64),
    Shape(vocab=50, hidden=32, inner=48, layers=3, heads=4, kv_heads=2, head_dim=8, context=64),
    Shape(vocab=50, hidden=24, inner=40, layers=1, heads=4, kv_heads=1, head_dim=16, context=64, eps=1e-6, theta=5e5),
]


def as_it_is(step):
    return step


@needs_torch
class TorchLlama(OnePart):
    def model(self, shape, dtype="float32"):
        from verification.models.torch_llama import TorchLlama

        torch.manual_seed(1)
        return TorchLlama(shape, "cpu", getattr(torch, dtype))

    def difference(self, model, prompt=7):
        from verification.models.torch_check import largest_difference

        return largest_difference(model, prompt, as_it_is)

    def test_steps_with_the_cache_have_the_same_logits_as_full_passes(self):
        for shape in SHAPES:
            for prompt in (2, 13):
                with self.subTest(shape=shape, prompt=prompt):
                    self.assertLess(self.difference(self.model(shape), prompt), 1e-5)

    def test_steps_in_bf16_have_the_same_logits_as_full_passes(self):
        for shape in SHAPES:
            self.assertLess(self.difference(self.model(shape, "bfloat16")), 4e-2)

    def test_the_check_detects_a_missing_token_and_an_extra_one(self):
        from verification.models.torch_llama import block

        def shifted(by):
            def wrong(x, h, layer, next_norm, keys, values, cos, sin, start, eps):
                return block(x, h, layer, next_norm, keys, values, cos, sin, start + by if x.shape[1] == 1 else start, eps)

            return wrong

        for by in (-1, 1):
            model = self.model(SHAPES[1])
            model.block = shifted(by)
            self.assertGreater(self.difference(model), 1e-2)

    def test_a_decode_step_writes_the_most_likely_token_to_the_next_input(self):
        from verification.models.torch_llama import Step

        model = self.model(SHAPES[0])
        step = Step(model, model.random_ids(3, 1), model.random_cache(3, 9), 8)
        place = step.ids.data_ptr()
        step()
        self.assertTrue(torch.equal(step.ids[:, 0], step.logits.argmax(-1)))
        self.assertEqual(step.ids.data_ptr(), place)

    def test_attention_and_norm_are_the_same_with_an_old_and_a_new_pytorch(self):
        from verification.models import torch_llama

        torch.manual_seed(1)
        q, k, v = torch.randn(2, 4, 6, 8), torch.randn(2, 2, 6, 8), torch.randn(2, 2, 6, 8)
        x, weight = torch.randn(3, 8), torch.randn(8)

        def both():
            return [torch_llama.attend(q, k, v, True), torch_llama.attend(q[:, :, -1:], k, v, False),
                    torch_llama.rms_norm(x, weight, 1e-5)]

        new = both()
        with mock.patch.object(torch_llama, "F", types.SimpleNamespace()):
            for one, other in zip(new, both()):
                self.assertTrue(torch.allclose(one, other, atol=1e-5))


class Peer(OnePart):
    @needs_torch
    def test_on_the_cpu(self):
        peer.run(self.part("peer", "cpu", seconds=40))
        lines = {line["case"]: line for line in self.lines()}
        for case in ("decode 1 450 50", "decode 32 450 50", "prefill 512"):
            self.assertEqual(lines[case]["kind"], "sdpa")
            self.assertGreater(lines[case]["tokens_per_s"], 0)
            self.assertEqual(lines[case]["torch"], torch.__version__)
        self.assertEqual(lines["compiled"]["result"], "skipped")  # too little time

    def compiled(self, script):
        part = self.part("peer", seconds=5)
        with mock.patch.object(sys, "executable", str(self.program("python", script))), \
                mock.patch.object(peer, "MIN_COMPILE_SECONDS", 0), mock.patch.object(peer, "END_SECONDS", 4):
            peer.compiled_decode(part)
        return part

    def test_results_before_the_compiler_hangs_count(self):
        part = self.compiled("""echo '{"part": "peer", "case": "decode 1 450 50", "kind": "compiled"}'; sleep 600""")
        self.assertEqual(self.line("decode 1 450 50")["kind"], "compiled")
        self.assertIn("took longer", self.line("compiled", result="skipped")["why"])
        self.assertEqual(part.failed, [])

    def test_a_compiler_crash_is_no_failure_but_wrong_logits_are(self):
        self.assertEqual(self.compiled("echo no compiler >&2; exit 1").failed, [])
        self.assertIn("no compiler", self.line("compiled", result="skipped")["why"])
        part = self.compiled("""echo '{"part": "peer", "case": "decode 1", "result": "failed", "why": "logits"}
{"part": "peer", "case": "end", "result": "failed", "why": "failed: decode 1"}'""")
        self.assertEqual(part.failed, ["decode 1"])

    def test_a_compiler_process_without_time_is_skipped(self):
        self.compiled("""echo '{"part": "peer", "case": "end", "result": "skipped", "why": "no time left"}'""")
        self.assertEqual(self.line("compiled")["why"], "no time left")


class Floors(OnePart):
    def ceilings(self, script, gpu="NVIDIA H100 80GB HBM3"):
        self.on_path("nvidia-smi", f"echo '{gpu}'")
        with mock.patch.object(sys, "executable", str(self.program("python", script))):
            floors.run(self.part("floors"))
        return self.line("ceilings")

    def test_measured_rates_are_reported(self):
        line = self.ceilings("""echo '{"copy_bytes_per_s": 2.9e12, "bf16_flop_per_s": 7.5e14, "gpu": "G"}'""")
        self.assertEqual((line["copy_bytes_per_s"], line["bf16_flop_per_s"], line["gpu"]), (2.9e12, 7.5e14, "G"))
        self.assertNotIn("assumed", line)

    def test_without_pytorch_rates_are_assumed_and_the_reason_is_reported(self):
        line = self.ceilings("echo \"ModuleNotFoundError: No module named 'torch'\" >&2; exit 1")
        self.assertEqual((line["copy_bytes_per_s"], line["bf16_flop_per_s"], line["assumed"]), (3.0e12, 790e12, True))
        self.assertIn("No module named 'torch'", line["why"])

    def test_the_assumed_rates_of_an_h200(self):
        self.assertEqual(self.ceilings("exit 1", "NVIDIA H200")["copy_bytes_per_s"], 4.3e12)

    def test_no_rates_are_assumed_for_an_unknown_device(self):
        with self.assertRaisesRegex(Skipped, "NVIDIA Unheard"):
            self.ceilings("exit 1", "NVIDIA Unheard")

    def test_after_a_measurement_that_hangs_there_is_time_to_report_assumed_rates(self):
        with mock.patch.object(floors, "MEASURE_SECONDS", 0.3):
            self.assertIn("took longer", self.ceilings("sleep 600")["why"])

    def test_the_cpu_has_no_floors(self):
        with self.assertRaises(Skipped):
            floors.run(self.part("floors", "cpu"))


@needs_trainer
class Training(OnePart):
    def test_the_loss_falls_on_the_cpu(self):
        training.run(self.part("training", "cpu"))
        line = self.line("training step")
        self.assertLess(line["losses"][-1], 0.8 * line["losses"][0])
        self.assertGreater(line["tokens_per_s"], 0)
        self.assertNotIn("share_of_product", line)
        self.assertEqual(list(self.folder.glob("tmp*")), [])

    def test_a_smaller_batch_replaces_one_that_does_not_fit(self):
        trainer = training.import_trainer()[0].SupervisedTrainer
        fits = trainer.train_step

        def small_ones_fit(self, how_far):
            if self.args.batch_examples > 1:
                raise torch.cuda.OutOfMemoryError("CUDA out of memory")
            return fits(self, how_far)

        with mock.patch.object(trainer, "train_step", small_ones_fit), \
                mock.patch.object(training, "ON_CPU", training.ON_CPU._replace(sequences=[2, 1])):
            training.run(self.part("training", "cpu"))
        self.assertIn("out of memory", self.line("2 sequences", result="skipped")["why"])
        self.assertEqual(self.line("training step")["sequences"], 1)

    def test_a_loss_that_does_not_fall_fails(self):
        task = training.ON_CPU._replace(rate=0.0)
        with mock.patch.object(training, "ON_CPU", task), self.assertRaisesRegex(Failed, "did not fall"):
            training.run(self.part("training", "cpu"))

    def test_the_operations_of_a_step(self):
        shape = Shape(vocab=10, hidden=4, inner=8, layers=2, heads=2, kv_heads=1, head_dim=2)
        weights = 2 * (4 * 4 + 2 * 4 + 2 * 4 + 4 * 4 + 3 * 4 * 8) + 10 * 4
        attended = 6 * 7 / 2  # by 6 tokens, each of which attends to itself and those before it: about 6 * 6 / 2
        exact = 3 * (2 * 6 * weights + 2 * attended * 2 * 2 * 4)  # scores and values, each 2 layers of 4 dimensions
        self.assertAlmostEqual(training.flop(training.Task(shape, 6, [1], 0), 6) / exact, 1, delta=0.05)


class Loading(OnePart):
    OPENED = ("""cat > $0.job; echo '{"case": "open", "device": "cpu", "seconds": 0.5}'; """
              """echo '{"case": "decode 1 16 4", "step_us": 1}'""")

    def test_the_file_is_written_opened_twice_and_removed(self):
        self.program("apar_bench_steps", self.OPENED)
        loading.run(self.part("loading", "cpu"))
        size = self.line("write")["bytes"]
        for case in ("open, not in memory", "open, in memory"):
            self.assertEqual((self.line(case)["bytes"], self.line(case)["seconds"]), (size, 0.5))
        for case in ("read, not in memory", "read, in memory"):
            self.assertEqual(self.line(case)["bytes"], size)
        self.assertEqual(list(self.folder.glob("*.safetensors")), [])
        job = (self.folder / "apar_bench_steps.job").read_text().splitlines()
        self.assertEqual(len([line for line in job if line.startswith("tensor ")]), 4 * 9 + 3)
        self.assertIn("device cpu", job)

    def test_the_file_is_a_safetensors_file_of_numbers_in_range(self):
        path = self.folder / "x.safetensors"
        size = loading.write_checkpoint(SHAPES[1], path, free=1 << 40)
        data = path.read_bytes()
        length = int.from_bytes(data[:8], "little")
        header = json.loads(data[8:8 + length])
        self.assertEqual(length % 8, 0)
        self.assertEqual(8 + length + max(entry["data_offsets"][1] for entry in header.values()), size)
        bits = loading.np.frombuffer(data[8 + length:], dtype="<u2").astype("<u4") << 16
        values = abs(bits.view("<f4"))
        self.assertTrue(((values >= 1 / 64) & (values < 1 / 32)).all())

    def test_a_failure_to_open_fails_the_part_and_removes_the_file(self):
        self.program("apar_bench_steps", "echo no such tensor >&2; exit 1")
        with self.assertRaisesRegex(Failed, "no such tensor"):
            loading.run(self.part("loading", "cpu"))
        self.assertEqual(list(self.folder.glob("*.safetensors")), [])

    def test_without_the_program_or_the_disk_space_the_part_is_skipped(self):
        with self.assertRaisesRegex(Skipped, "is not there"):
            loading.run(self.part("loading", "cpu"))
        with self.assertRaisesRegex(Skipped, "are needed"):
            loading.write_checkpoint(SHAPES[0], self.folder / "x", free=10)


if __name__ == "__main__":
    unittest.main()
