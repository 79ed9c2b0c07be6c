import unittest

from verification.floors import BF16, INT4, assumed, floor_seconds
from verification.goals import goals
from verification.models.llama import LLAMA_7B


def step(case, part="steps", **fields):
    return {"part": part, "dtype": "bf16", "case": case, **fields}


class Goals(unittest.TestCase):
    def test_a_goal_without_a_measurement_is_neither_met_nor_missed(self):
        for goal in goals([]).values():
            self.assertEqual((goal["value"], goal["met"]), (None, None))

    def test_each_goal_has_its_value_and_whether_it_is_met(self):
        found = goals([
            step("decode 1 450 50", tokens_per_s=250, share_of_floor=0.85, host_share=0.04),
            step("decode 32 450 50", tokens_per_s=6000, share_of_floor=0.7),
            step("decode 32 450 50", "steps_wgmma", tokens_per_s=7000, share_of_floor=0.9),
            step("decode 1 450 50", "formats", dtype="int4", tokens_per_s=500),
        ])
        self.assertEqual(found["decode 1, mma, of floor"], {"value": 0.85, "goal": 0.85, "met": True})
        self.assertEqual(found["decode 32, mma, of floor"]["met"], False)
        self.assertEqual(found["decode 32, wgmma, of floor"]["met"], True)
        self.assertEqual(found["fp8 or int4 over bf16, 1 row"], {"value": 2, "goal": 1.6, "met": True})
        self.assertEqual(found["host's share, 1 row"]["met"], False)

    def test_a_later_measurement_replaces_an_earlier_one(self):
        found = goals([step("prefill 512", share_of_floor=0.2), step("prefill 512", share_of_floor=0.7)])
        self.assertEqual(found["prefill 512, mma, of floor"], {"value": 0.7, "goal": 0.65, "met": True})

    def test_attention_is_judged_by_its_worst_number_of_rows_if_all_are_measured(self):
        lines = [{"part": "kernels", "case": f"attention shared {rows}", "share_of_copy": share}
                 for rows, share in {1: 0.7, 8: 0.9, 32: 0.8, 128: 0.9, 350: 0.85}.items()]
        self.assertEqual(goals(lines)["attention, of the copy"], {"value": 0.7, "goal": 0.75, "met": False})
        self.assertIsNone(goals(lines[1:])["attention, of the copy"]["met"])

    def test_our_best_result_is_compared_with_the_best_of_the_peer(self):
        lines = [step("decode 32 450 50", tokens_per_s=6000), step("decode 32 450 50", "steps_wgmma", tokens_per_s=9000),
                 {"part": "peer", "case": "decode 32 450 50", "tokens_per_s": 3000},
                 {"part": "peer", "case": "decode 32 450 50", "tokens_per_s": 2000}]
        self.assertEqual(goals(lines)["over PyTorch, 32 rows"], {"value": 3, "goal": 3.0, "met": True})


class Floors(unittest.TestCase):
    CEILINGS = {"copy_bytes_per_s": 4.3e12, "bf16_flop_per_s": 790e12}

    def test_the_floor_of_one_row_is_one_read_of_the_weights(self):
        self.assertAlmostEqual(floor_seconds(LLAMA_7B, "decode 1 450 50", BF16, self.CEILINGS) * 1e3, 3.13, places=2)
        self.assertLess(floor_seconds(LLAMA_7B, "decode 1 450 50", INT4, self.CEILINGS) * 1e3, 1.1)

    def test_the_floor_of_a_long_prompt_is_its_multiplications(self):
        products = 2 * (LLAMA_7B.linear_weights() - 32000 * 4096) * 2048
        self.assertGreater(floor_seconds(LLAMA_7B, "prefill 2048", BF16, self.CEILINGS), products / 790e12)

    def test_assumed_rates_are_marked(self):
        self.assertEqual(assumed("NVIDIA H100 80GB HBM3")["copy_bytes_per_s"], 3.0e12)
        self.assertTrue(assumed("NVIDIA H200")["assumed"])
        for other in ("unknown", "NVIDIA H100 PCIe", "NVIDIA H100 NVL", "NVIDIA GH200 480GB"):
            self.assertIsNone(assumed(other), other)
