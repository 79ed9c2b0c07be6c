import unittest

from proving.targets import targets


def bench(case, **fields):
    return {"part": "bench", "dtype": "bf16", "case": case, **fields}


class Targets(unittest.TestCase):
    def test_what_was_not_measured_is_neither_met_nor_missed(self):
        for target in targets([]).values():
            self.assertEqual((target["value"], target["met"]), (None, None))

    def test_value_target_met(self):
        found = targets([
            bench("decode 1 450 50", tokens_per_s=250, share_of_floor=0.8, host_share=0.04),
            bench("decode 32 450 50", tokens_per_s=6000, share_of_floor=0.7),
            {**bench("decode 1 450 50", tokens_per_s=500), "dtype": "int4"},
        ])
        self.assertEqual(found["decode 1, of floor"], {"value": 0.8, "target": 0.8, "met": True})
        self.assertEqual(found["decode 1, tok/s"], {"value": 250, "target": 255, "met": False})
        self.assertEqual(found["decode 32, of floor"]["met"], False)
        self.assertEqual(found["fp8 or int4 over bf16, 1 row"], {"value": 2, "target": 1.6, "met": True})
        self.assertEqual(found["host's share, 1 row"]["met"], False)

    def test_attention_is_judged_by_the_worst_number_of_rows_once_all_are_measured(self):
        lines = [{"part": "kernels", "case": f"attention shared 450+50 {rows}", "share_of_copy": share}
                 for rows, share in {1: 0.7, 32: 0.8, 128: 0.9, 350: 0.85}.items()]
        self.assertEqual(targets(lines)["attention, of its bytes"], {"value": 0.7, "target": 0.75, "met": False})
        self.assertIsNone(targets(lines[1:])["attention, of its bytes"]["met"])

    def test_a_peer_that_did_not_compile_is_no_peer(self):
        ours, case = [bench("decode 1 450 50", tokens_per_s=260)], {"part": "peer", "case": "decode 1 450 50"}
        compiled = targets(ours + [{**case, "tokens_per_s": 130, "compiled": True}])
        self.assertEqual(compiled["peer, 1 row"], {"value": 2, "target": 1.3, "met": True})
        eager = targets(ours + [{**case, "tokens_per_s": 20, "compiled": False}])
        self.assertIsNone(eager["peer, 1 row"]["met"])
