"""Runs both phases with stand-ins for all GPU programs, so that the Python code of a real run is executed."""

import tempfile
import unittest
from pathlib import Path

from verification.part import NATIVE, read_lines
from verification.phases import PHASES
from verification.report import page

from . import rehearsal

PROGRAMS = NATIVE / "build/release"  # built for the CPU
# Parts that need PyTorch on a GPU; test_torch_parts.py tests their Python code.
WITHOUT_STAND_IN = {"floors", "peer", "training", "ranks"}


@unittest.skipUnless((PROGRAMS / "apar_logits").exists(), f"{PROGRAMS} is not built")
class Rehearsal(unittest.TestCase):
    def rehearse(self, what: str, folder: Path, failing: bool = False):
        lines = rehearsal.rehearse(what, folder, PROGRAMS, rehearsal.IMMEDIATE, failing)
        ends = {line["part"]: line for line in lines if line["case"] == "end"}
        wanted = [step.part for step in PHASES[what].steps] if what in PHASES else what.split()
        self.assertEqual(list(ends), [*wanted, "verify"])
        return lines, ends

    def test_both_phases(self):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            for phase, may_skip in [("1", {"floors"}), ("2", {"red"} | WITHOUT_STAND_IN)]:
                lines, ends = self.rehearse(phase, folder)
                if phase == "1":  # the stand-in runs on the CPU, which has neither fp8 nor int4-g128 weights
                    self.assertEqual(ends.pop("logits")["why"], "failed: fp8, int4-g128")
                for part, end in ends.items():
                    if part not in WITHOUT_STAND_IN | {"verify"}:
                        self.assertEqual(end["result"], "skipped" if part in may_skip else "ok", end)
                if phase == "1":
                    self.assertEqual(len([line for line in lines if line.get("gemm") == "wgmma" and "share_of_floor" in line]), 7)
                    assumed = [line for line in lines if line.get("floor_is_assumed")]
                    self.assertTrue(assumed, "without PyTorch on a GPU, floors must be assumed and marked")
            goals = next(line["goals"] for line in lines if line["case"] == "goals")
            self.assertEqual({name for name, goal in goals.items() if goal["value"] is None},
                             {"over PyTorch, 1 rows", "over PyTorch, 32 rows"})
            self.assertLessEqual(len(list((folder / "out").iterdir())), 8)
            self.assertIn("| decode 32 | wgmma | 100 |", page([*read_lines(folder / "out/phase-1.jsonl"), *lines], ["raw.jsonl"]))

    def test_a_failed_case_is_diagnosed_immediately_and_again_in_phase_2(self):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            case = "test_cuda_gemm: packed products: split sums, by several blocks and by one block"
            for what, part in [("1", "parity"), ("red kernels", "red")]:
                lines, ends = self.rehearse(what, folder, failing=True)
                mine = [line for line in lines if line["part"] == part and line["case"] == case]
                self.assertEqual(ends[part]["result"], "failed")
                self.assertTrue(any("mismatch" in line for line in mine))
                self.assertEqual([line["tool"] for line in mine if "tool" in line], ["memcheck", "racecheck"])
                self.assertEqual(ends["verify"]["result"], "failed")
                self.assertIn(part, ends["verify"]["failed"])
                self.assertEqual(ends["steps" if part == "parity" else "kernels"]["result"], "ok")
