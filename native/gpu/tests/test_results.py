from unittest import mock

from verification.results import Results

from .support import InFolder


class Files(InFolder):
    def results(self):
        results = Results(self.folder, "phase-1")
        self.addCleanup(results.file.close)
        self.addCleanup(results.log.close)
        return results

    def test_the_results_of_earlier_runs_are_kept(self):
        for case in ("first", "second", "third"):
            self.results().add({"part": "p", "case": case})
        texts = [(self.folder / f"{name}.jsonl").read_text() for name in ("phase-1.1", "phase-1.2", "phase-1")]
        for text, case in zip(texts, ("first", "second", "third")):
            self.assertIn(case, text)

    def test_a_detail_is_written_to_the_file_but_not_printed(self):
        results = self.results()
        results.add({"part": "p", "case": "quiet", "detail": True})
        results.add({"part": "p", "case": "loud"})
        self.assertNotIn("quiet", self.printed.getvalue())
        self.assertIn("loud", self.printed.getvalue())
        self.assertIn("quiet", (self.folder / "phase-1.jsonl").read_text())

    def test_a_full_disk_does_not_end_the_run(self):
        results = self.results()
        full = mock.Mock(write=mock.Mock(side_effect=OSError("No space left on device")), tell=lambda: 0)
        with mock.patch.object(results, "file", full):
            results.add({"part": "p", "case": "first"})
            results.add({"part": "p", "case": "second"})
        self.assertIn("second", self.printed.getvalue())

    def test_both_files_stay_below_the_limit_of_files_that_are_copied_back(self):
        with mock.patch("verification.results.MAX_BYTES", 2000):
            results = self.results()
            for number in range(200):
                results.add({"part": "p", "case": str(number)})
                results.write_log("words " * 10)
            results.close()
        for kind in ("jsonl", "log"):
            self.assertLessEqual((self.folder / f"phase-1.{kind}").stat().st_size, 2000)
        self.assertIn("omitted", (self.folder / "phase-1.log").read_text())
