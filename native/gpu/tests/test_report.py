import os

from proving.report import Failed, OutOfTime, Skipped

from .support import InFolder

HANG = ["sleep", "600"]


def good(report, options):
    report.line(part="good", case="a case", result="ok")


def broken(report, options):
    report.program(["sh", "-c", "echo the last words; exit 3"])


def hanging(report, options):
    report.program(HANG, limit=300)


class Deadline(InFolder):
    def test_what_runs_then_is_ended_and_what_comes_after_is_skipped(self):
        report = self.report(seconds=1.5)
        for name, part in {"good": good, "hanging": hanging, "late": good}.items():
            report.run(name, part, None)
        self.assertEqual(report.finish(), 0)
        ends = self.ends()
        self.assertEqual(ends["good"], ("ok", None))
        self.assertEqual(ends["hanging"][0], "skipped")
        self.assertRegex(ends["hanging"][1], "^no time left: sleep was ended")
        self.assertEqual(ends["late"], ("skipped", "no time left"))
        self.assertEqual(self.lines()[-1]["not_shown"], ["hanging", "late"])

    def test_an_attempt_does_not_swallow_it(self):
        report = self.report(seconds=0)
        with self.assertRaises(OutOfTime), report.attempt("part", "case"):
            report.program(["true"])
        self.assertEqual(report.failed_cases, [])

    def test_a_program_over_its_own_limit_has_failed(self):
        report = self.report()
        with self.assertRaisesRegex(Failed, "sleep took longer than 0.2 s"):
            report.program(HANG, limit=0.2)

    def test_children_are_ended_with_the_program(self):
        end, held = os.pipe()
        with self.assertRaises(Failed):
            self.report().program(["sh", "-c", "sleep 600 & wait"], limit=0.2, pass_fds=(held,))
        os.close(held)
        self.assertEqual(os.read(end, 1), b"")  # comes when nobody holds the other end any more
        os.close(end)

    def test_a_child_that_keeps_the_output_open_does_not_hold_a_program_that_has_ended(self):
        self.assertEqual(self.report().program(["sh", "-c", "sleep 600 & echo said"], limit=300), b"said\n")


class Results(InFolder):
    def test_those_before_a_hang_count(self):
        report, found = self.report(), []
        with self.assertRaises(Failed):
            report.results(["sh", "-c", """echo '{"a": 1}'; echo words; sleep 600"""], found.append, limit=0.5)
        self.assertEqual(found, [{"a": 1}])

    def test_a_last_line_without_an_end_counts(self):
        found = []
        self.report().results(["printf", r'{"a": 1}\n{"b": 2}'], found.append)
        self.assertEqual(found, [{"a": 1}, {"b": 2}])


class Parts(InFolder):
    def test_a_failed_one_leaves_the_others_alone_and_fails_the_run(self):
        report = self.report()
        report.run("broken", broken, None)
        report.run("good", good, None)
        self.assertEqual(report.finish(), 1)
        self.assertEqual(self.ends()["broken"], ("failed", "sh ended with 3: the last words"))
        self.assertEqual(self.ends()["good"], ("ok", None))
        self.assertEqual(self.lines()[-1]["failed"], ["broken"])

    def test_what_needs_a_failed_build_is_skipped(self):
        report = self.report()
        report.run("build", broken, None)
        report.run("bench", good, None, needs_build=True)
        report.run("peer", good, None)
        self.assertEqual(report.finish(), 1)
        self.assertEqual(self.ends()["bench"], ("skipped", "the build failed"))
        self.assertEqual(self.ends()["peer"], ("ok", None))

    def test_a_failed_case_fails_its_part_after_the_others_ran(self):
        def part(report, options):
            for case, command in {"one": ["false"], "two": ["true"]}.items():
                with report.attempt("part", case):
                    report.program(command)
                    report.line(part="part", case=case, result="ok")
            raise Skipped("the rest")

        report = self.report()
        report.run("part", part, None)
        self.assertEqual(self.ends()["part"], ("failed", "failed: one; the rest"))
        self.assertIn({"part": "part", "case": "two", "result": "ok"}, self.lines())


    def test_one_that_is_ended_from_outside_is_named(self):
        def ended(report, options):
            raise SystemExit(143)

        report = self.report()
        with self.assertRaises(SystemExit):
            report.run("ended", ended, None)
        report.finish()
        self.assertEqual(self.lines()[-1]["not_shown"], ["ended"])


class Files(InFolder):
    def test_an_earlier_run_is_kept(self):
        for case in ("first", "second", "third"):
            self.report().line(part="p", case=case)
        cases = [self.lines(name)[1]["case"] for name in ("prove.1.jsonl", "prove.2.jsonl", "prove.jsonl")]
        self.assertEqual(cases, ["first", "second", "third"])

    def test_the_log_has_what_programs_said(self):
        self.report().program(["sh", "-c", "echo out; echo err >&2"])
        said = (self.folder / "prove.log").read_text()
        self.assertIn("out\n", said)
        self.assertIn("err\n", said)
