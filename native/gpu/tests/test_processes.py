import os
import subprocess
import unittest

from verification.part import Failed, OutOfTime
from verification.processes import run_limited

from .support import OnePart

HANG = ["sleep", "600"]


class Programs(OnePart):
    def test_the_error_of_a_failed_program_has_the_beginning_and_the_end_of_its_output(self):
        with self.assertRaisesRegex(Failed, r"(?s)^sh exited with 3: the first words.*\[\.\.\.\].*the last words$"):
            self.part().program(["sh", "-c", "echo the first words; seq 2000; echo the last words; exit 3"])

    def test_the_error_of_a_crash_names_the_signal(self):
        with self.assertRaisesRegex(Failed, "was killed by signal 6: words"):
            self.part().program(["sh", "-c", "echo words; kill -ABRT $$"])

    def test_a_program_that_exceeds_its_limit_fails_and_its_output_is_kept(self):
        with self.assertRaisesRegex(Failed, "sh took longer than 0.5 s; its output: words"):
            self.part().program(["sh", "-c", "echo words; sleep 600"], limit=0.5)

    def test_a_program_without_output_fails_before_its_limit(self):
        with self.assertRaisesRegex(Failed, "sh printed nothing for 0.5 s; its output before: words"):
            self.part().program(["sh", "-c", "echo words; sleep 600"], limit=300, output_timeout=0.5)

    def test_much_output_does_not_fill_the_log(self):
        part = self.part()
        part.program(["sh", "-c", "echo first; yes | head -c 3000000; echo last"])
        text = (self.folder / "log").read_text()
        self.assertLess(len(text), 210_000)
        self.assertIn("characters are omitted", text)
        self.assertTrue(text.rstrip().endswith("last"))

    def test_a_program_that_the_parts_deadline_ends_is_out_of_time(self):
        with self.assertRaisesRegex(OutOfTime, "no time left: sleep was killed"):
            self.part(seconds=1.5).program(HANG, limit=300)
        with self.assertRaisesRegex(OutOfTime, "no time left$"):
            self.part(seconds=0).program(["true"])

    def test_results_before_a_hang_count(self):
        found = []
        with self.assertRaises(Failed):
            self.part().results(["sh", "-c", """echo '{"a": 1}'; echo words; sleep 600"""], found.append, limit=0.7)
        self.assertEqual(found, [{"a": 1}])

    def test_a_last_line_without_a_newline_counts_unless_it_is_truncated(self):
        found = []
        self.part().results(["printf", r'{"a": 1}\n{"b": 2}'], found.append)
        self.part().results(["printf", r'{"a": 1}\n{"b": '], found.append)
        self.assertEqual(found, [{"a": 1}, {"b": 2}, {"a": 1}])


class Children(unittest.TestCase):
    def test_child_processes_are_killed_with_the_program(self):
        end, held = os.pipe()
        with self.assertRaises(subprocess.TimeoutExpired):
            run_limited(["sh", "-c", "sleep 600 & wait"], 0.3, None, pass_fds=(held,))
        os.close(held)
        self.assertEqual(os.read(end, 1), b"")  # returns when no process holds the other end any more
        os.close(end)

    def test_a_child_that_keeps_the_output_open_does_not_delay_the_end_of_its_program(self):
        printed = bytearray()
        self.assertEqual(run_limited(["sh", "-c", "sleep 5 & echo words"], 300, None, keep=printed), 0)
        self.assertEqual(bytes(printed), b"words\n")
