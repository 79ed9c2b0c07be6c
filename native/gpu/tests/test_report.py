import json
import subprocess
import sys

from verification.part import NATIVE
from verification.report import page

from .support import InFolder

BEGIN = {"part": "verify", "case": "begin", "what": "1", "date": "2026-12-01T08:00:00Z", "device": "cuda", "commit": "abc",
         "gpu": "NVIDIA H100 80GB HBM3", "capability": "9.0", "driver": "580.1", "memory": "81559 MiB"}


class Page(InFolder):
    def report(self, *arguments):
        return subprocess.run([sys.executable, NATIVE / "gpu/report", *arguments], capture_output=True, text=True, check=False)

    def write(self, name, *lines):
        path = self.folder / name
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        return path

    def test_two_phases_give_one_page_and_copies_of_the_raw_results(self):
        step = {"part": "steps", "case": "decode 8 450 50", "gemm": "mma", "tokens_per_s": 1000.0, "step_us": 8000.0,
                "device_us": 7900.0, "floor_us": 3950.0, "share_of_floor": 0.5}
        one = self.write("phase-1.jsonl", BEGIN, step, {"part": "steps", "case": "end", "result": "ok", "seconds": 9.5})
        two = self.write("phase-2.jsonl", {**BEGIN, "what": "2"}, {"part": "peer", "case": "decode 32 450 50", "result": "failed",
                                                                   "why": "a | b\nc"})
        out = self.folder / "results"
        out.mkdir()
        run = self.report(one, two, "--out", out)
        self.assertEqual(run.returncode, 0, run.stderr)
        self.assertEqual(sorted(path.name for path in out.iterdir()),
                         ["2026-12-01-h100-phase-1.jsonl", "2026-12-01-h100-phase-2.jsonl", "2026-12-01-h100.md"])
        text = (out / "2026-12-01-h100.md").read_text()
        self.assertIn("`native/gpu/verify 1`, `native/gpu/verify 2`", text)
        self.assertIn("| decode 8 | mma | 1000 | 8000 | 7900 | 3950 | 0.5 |", text)
        self.assertIn("| decode 8, mma, of floor | 0.5 | 0.85 | no |", text)
        self.assertIn("- **peer**, decode 32 450 50: a \\| b c", text)

    def test_files_without_results_are_refused(self):
        for lines, why in [([], "first line is missing"), ([{"part": "x", "case": "y"}], "first line is missing")]:
            run = self.report(self.write("other.jsonl", *lines))
            self.assertEqual((run.returncode, why in run.stderr), (1, True), run.stderr)
        broken = self.folder / "broken.jsonl"
        broken.write_text("{")
        self.assertEqual(self.report(broken).returncode, 1)
        self.assertEqual(self.report(self.folder / "missing.jsonl").returncode, 1)

    def test_the_last_measurement_of_a_case_is_used(self):
        lines = [{"part": "formats", "case": "decode 1 450 50", "dtype": "int4", "tokens_per_s": rate} for rate in (1.0, 2.0)]
        self.assertIn("| int4 | decode 1 450 50 | 2 |", page([BEGIN, *lines], ["raw"]))
        self.assertNotIn("| int4 | decode 1 450 50 | 1 |", page([BEGIN, *lines], ["raw"]))
