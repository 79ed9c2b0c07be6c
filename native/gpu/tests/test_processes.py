import os
import subprocess
import unittest

from verification.part import Failed, OutOfTime
from verification.processes import run_limited

from .support import OnePart

HANG = ["sleep", "600"]


class Programs(OnePart):
    def test_one_that_fails_says_its_first_and_its_last_words(self):
        with self.assertRaisesRegex(Failed, r"(?s)^sh ended with 3: the first words.*\[\.\.\.\].*the last words$"):
            self.part().program(["sh", "-c", "echo the first words; seq 2000; echo the last words; exit 3"])

    def test_a_crash_names_its_signal(self):
        with self.assertRaisesRegex(Failed, "was ended by signal 6: words"):
            self.part().program(["sh", "-c", "echo words; kill -ABRT $$"])

    def test_one_over_its_limit_has_failed_and_keeps_what_it_said(self):
        with self.assertRaisesRegex(Failed, "sh took longer than 0.5 s; it had said: words"):
            self.part().program(["sh", "-c", "echo words; sleep 600"], limit=0.5)

    def test_one_that_falls_silent_has_failed_long_before_its_limit(self):
        with self.assertRaisesRegex(Failed, "sh said nothing for 0.5 s; before that: words"):
            self.part().program(["sh", "-c", "echo words; sleep 600"], limit=300, quiet=0.5)

    def test_a_chatty_one_does_not_fill_the_log(self):
        part = self.part()
        part.program(["sh", "-c", "echo first; yes | head -c 3000000; echo last"])
        text = (self.folder / "log").read_text()
        self.assertLess(len(text), 210_000)
        self.assertIn("characters are left out", text)
        self.assertTrue(text.rstrip().endswith("last"))

    def test_one_that_the_parts_time_ends_was_not_shown(self):
        with self.assertRaisesRegex(OutOfTime, "no time left: sleep was ended"):
            self.part(seconds=1.5).program(HANG, limit=300)
        with self.assertRaisesRegex(OutOfTime, "no time left$"):
            self.part(seconds=0).program(["true"])

    def test_results_before_a_hang_count(self):
        found = []
        with self.assertRaises(Failed):
            self.part().results(["sh", "-c", """echo '{"a": 1}'; echo words; sleep 600"""], found.append, limit=0.7)
        self.assertEqual(found, [{"a": 1}])

    def test_a_last_line_without_an_end_counts_unless_it_was_cut_off(self):
        found = []
        self.part().results(["printf", r'{"a": 1}\n{"b": 2}'], found.append)
        self.part().results(["printf", r'{"a": 1}\n{"b": '], found.append)
        self.assertEqual(found, [{"a": 1}, {"b": 2}, {"a": 1}])


class Children(unittest.TestCase):
    def test_are_ended_with_the_program(self):
        end, held = os.pipe()
        with self.assertRaises(subprocess.TimeoutExpired):
            run_limited(["sh", "-c", "sleep 600 & wait"], 0.3, None, pass_fds=(held,))
        os.close(held)
        self.assertEqual(os.read(end, 1), b"")  # comes when nobody holds the other end any more
        os.close(end)

    def test_one_that_keeps_the_output_open_does_not_hold_a_program_that_has_ended(self):
        said = bytearray()
        self.assertEqual(run_limited(["sh", "-c", "sleep 5 & echo said"], 300, None, keep=said), 0)
        self.assertEqual(bytes(said), b"said\n")
