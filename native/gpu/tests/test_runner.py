"""Parts that fail, hang, crash, run out of time or print nothing do not affect the others and leave no processes
behind."""

import os
import time
from unittest import mock

from verification.phases import Step
from verification.processes import descendants

from .support import Phase

HEADER = "import os, signal, subprocess, sys, time\nfrom verification.part import *\n"
FOOTER = "\nif __name__ == '__main__':\n    main(run)\n"
PARTS = {
    "good": "def run(part):\n    part.result('a case', result='ok')\n",
    "failing": "def run(part):\n    raise Failed('the reason')\n",
    "broken": "def run(part):\n    return 1 / 0\n",
    "skipping": "def run(part):\n    raise Skipped('nothing to do')\n",
    "hanging": "def run(part):\n    part.result('a case', result='ok')\n    time.sleep(600)\n",
    "deaf": "def run(part):\n    signal.signal(signal.SIGTERM, signal.SIG_IGN)\n    subprocess.run(['sleep', '600'])\n",
    "crashing": "def run(part):\n    part.result('a case', result='ok')\n    os.kill(os.getpid(), signal.SIGSEGV)\n",
    "quitting": "def run(part):\n    os._exit(0)\n",
    "leaving": "def run(part):\n    subprocess.Popen(['setsid', 'sleep', '600'])\n",
    "chatty": "def run(part):\n    print('words', flush=True)\n    print('{broken', flush=True)\n    print('[1]', flush=True)\n"
              "    print('to the log', file=sys.stderr)\n",
    "busy": "def run(part):\n    while True:\n        pass\n",
    "slow_program": "def run(part):\n    part.program(['sleep', '600'], limit=300)\n",
    "reading": "def run(part):\n    part.result('seen', earlier=part.earlier('good', 'a case'))\n",
}


class Parts(Phase):
    def setUp(self):
        super().setUp()
        package = self.folder / "verification/parts"
        package.mkdir(parents=True)
        for name, code in PARTS.items():
            (package / f"{name}.py").write_text(HEADER + code + FOOTER)
        # The package of parts is the test's own; all other modules are the real ones.
        real = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
        (self.folder / "verification/__init__.py").write_text(
            f"__path__.append({os.path.join(real, 'verification')!r})\n")
        (package / "__init__.py").write_text("")
        patched = mock.patch("verification.runner.FOLDER", self.folder)
        patched.start()
        self.addCleanup(patched.stop)

    def steps(self, *names, seconds=20.0, **fields):
        return [Step(name, seconds, programs=False, **fields) for name in names]

    def test_every_kind_of_failure_is_reported_and_the_next_part_runs(self):
        self.phase(self.steps("failing", "broken", "crashing", "quitting", "skipping", "good"))
        ends = self.ends()
        self.assertEqual(ends["failing"], ("failed", "the reason"))
        self.assertEqual(ends["broken"], ("failed", "ZeroDivisionError: division by zero"))
        self.assertEqual(ends["crashing"], ("failed", "the part's process was killed by signal 11"))
        self.assertEqual(ends["quitting"], ("failed", "the part ended without a result"))
        self.assertEqual(ends["skipping"], ("skipped", "nothing to do"))
        self.assertEqual(ends["good"], ("ok", None))
        self.assertIn({"part": "crashing", "case": "a case", "result": "ok"}, self.lines())
        self.assertIn("Traceback", self.log())

    def test_a_part_that_hangs_is_killed_with_its_processes(self):
        with mock.patch("verification.runner.GRACE_SECONDS", 1):
            self.phase([*self.steps("hanging", "deaf", seconds=2), *self.steps("leaving", "good")])
        ends = self.ends()
        self.assertEqual(ends["hanging"], ("failed", "the part did not end within 2 s"))
        self.assertEqual(ends["deaf"], ("failed", "the part did not end within 2 s"))
        self.assertEqual(ends["leaving"], ("ok", None))
        self.assertEqual(ends["good"], ("ok", None))
        self.assertIn({"part": "hanging", "case": "a case", "result": "ok"}, self.lines())
        self.assertEqual(descendants(os.getpid()), [])
        self.assertLess(time.monotonic() - self.began, 20)

    def test_a_part_whose_program_is_out_of_time_is_skipped(self):
        self.phase(self.steps("slow_program", seconds=5))
        result, why = self.ends()["slow_program"]
        self.assertEqual(result, "skipped")
        self.assertRegex(why, "^no time left: sleep was killed")

    def test_a_part_whose_own_code_is_out_of_time_is_skipped(self):
        self.phase(self.steps("busy", seconds=5))
        self.assertEqual(self.ends()["busy"], ("skipped", "no time left"))

    def test_time_is_reserved_for_later_parts(self):
        last = Step("good", 20, reserved=8, programs=False)
        with mock.patch("verification.runner.GRACE_SECONDS", 1):
            self.phase([*self.steps("hanging", seconds=60), last], seconds=10)
        self.assertEqual(self.ends()["hanging"][0], "failed")
        self.assertEqual(self.ends()["good"], ("ok", None))

    def test_without_time_nothing_is_started(self):
        self.phase(self.steps("good"), seconds=0.5)
        self.assertEqual(self.ends()["good"], ("skipped", "no time left"))

    def test_without_programs_the_parts_that_need_them_are_skipped(self):
        needing = Step("good", 20)
        self.phase([*self.steps("failing"), needing])
        self.assertEqual(self.ends()["good"], ("skipped", "there are no programs: part build failed or did not run"))

    def test_programs_of_an_earlier_run_are_not_used(self):
        (self.folder / "earlier.jsonl").write_text('{"part": "build", "case": "programs", "folder": "old"}\n')
        self.phase([Step("good", 20)])
        self.assertEqual(self.ends()["good"][0], "skipped")

    def test_after_a_build_that_failed_but_provided_programs_the_other_parts_run(self):
        (self.folder / "verification/parts/build.py").write_text(
            HEADER + "def run(part):\n    part.fail('tests', 'no header')\n    part.result('programs', folder='x')\n" + FOOTER)
        self.phase([*self.steps("build"), Step("good", 20)])
        self.assertEqual(self.ends()["build"], ("failed", "failed: tests"))
        self.assertEqual(self.ends()["good"], ("ok", None))

    def test_lines_that_are_no_results_go_to_the_log(self):
        self.phase(self.steps("chatty"))
        self.assertEqual(len(self.lines()), 1)
        for words in ("words", "{broken", "[1]", "to the log"):
            self.assertIn(words, self.log())

    def test_a_truncated_result_does_not_affect_the_next_one(self):
        (self.folder / "earlier.jsonl").write_text('{"part": "good", "case": "a case", "resu')
        self.phase(self.steps("good", "reading"))
        self.assertEqual(self.ends()["reading"], ("ok", None))
        self.assertIn("earlier", next(line for line in self.lines() if line["case"] == "seen"))

    def test_later_parts_see_earlier_results(self):
        self.phase(self.steps("good", "reading"))
        seen = next(line for line in self.lines() if line["case"] == "seen")
        self.assertEqual(seen["earlier"], {"part": "good", "case": "a case", "result": "ok"})
