"""Tests on a device, with a stand-in for their program: failed cases have a reason, and cases that did not run do not
pass."""

from verification.diagnosis import Diagnosis, sanitize
from verification.part import Failed, OutOfTime, Skipped
from verification.parts import red
from verification.tests_on_device import list_cases, run_test

from .support import OnePart

LIST = """case "$*" in *--list-test-cases*)
echo '[doctest] listing all test case names'; echo =====; echo 'one, two'; echo three; echo =====
echo '[doctest] unskipped test cases passing the current filters: 2'; exit 0;; esac"""
PASSED = "echo '[doctest] test cases: 1 | 1 passed | 0 failed'; echo '[doctest] assertions: 7 | 7 passed'"
FAILED = r"""echo '/x/test_cuda_gemm.cpp:50: ERROR: CHECK( wrong.check() ) is NOT correct!'
echo '{"mismatch": {"what": "gemm", "wrong": 3, "nan": 1, "first": [[0, 1, NaN, 2.5]]}}'
seq 3000; echo '[doctest] test cases: 1 | 0 passed | 1 failed'; exit 1"""


def only(case: str, script: str) -> str:
    return f'case "$*" in *"{case}"*) {script};; esac'


class Cases(OnePart):
    def stand_in(self, script: str):
        self.program("device_tests", f"{LIST}\n{script}")

    def test_every_case_runs_in_its_own_process_and_is_counted(self):
        self.stand_in(f'echo "$*" >> "{self.folder}/calls"\n{PASSED}')
        run_test(self.part(), "test_cuda_gemm", 20)
        calls = (self.folder / "calls").read_text().splitlines()
        self.assertEqual(calls, ["--source-file=*test_cuda_gemm.cpp --test-case=one? two",
                                 "--source-file=*test_cuda_gemm.cpp --test-case=three"])
        self.assertEqual(self.line("test_cuda_gemm"), {"part": "parity", "case": "test_cuda_gemm", "result": "ok", "on": "device",
                                                       "test_cases": 2, "assertions": 14})

    def test_a_failed_case_has_its_first_assertion_and_its_mismatch_and_the_next_case_runs(self):
        self.stand_in(f"{only('one? two', FAILED)}\n{PASSED}")
        part = self.part()
        run_test(part, "test_cuda_gemm", 20)
        name = "test_cuda_gemm: one, two"
        self.assertEqual(part.failed, [name])
        why = self.line(name, result="failed")["why"]
        self.assertIn("device_tests exited with 1: /x/test_cuda_gemm.cpp:50: ERROR: CHECK( wrong.check() ) is NOT correct!", why)
        mismatch = [line for line in self.lines() if "mismatch" in line]
        self.assertEqual([line["mismatch"]["wrong"] for line in mismatch], [3])
        self.assertFalse(any(line["case"] == "test_cuda_gemm" for line in self.lines()))

    def test_a_case_that_hangs_crashes_or_runs_nothing_fails(self):
        for script, why in [("sleep 600", "took longer than 0.3 s"), ("kill -SEGV $$", "was killed by signal 11"),
                            ("echo '[doctest] test cases: 0 | 0 passed'", "no test case ran"), ("echo nothing", "no test case ran")]:
            with self.subTest(why):
                self.printed.truncate(0)
                self.printed.seek(0)
                self.stand_in(script)
                part = self.part()
                run_test(part, "test_cuda_gemm", 0.3)
                self.assertEqual(len(part.failed), 2)
                self.assertIn(why, self.line("test_cuda_gemm: three")["why"])

    def test_a_case_without_time_does_not_fail(self):
        self.stand_in("sleep 600")
        part = self.part(seconds=1.6)
        with self.assertRaises(OutOfTime):
            run_test(part, "test_cuda_gemm", 20)
        self.assertEqual(part.failed, [])

    def test_a_case_that_skips_itself_has_a_reason(self):
        self.stand_in(f"{only('three', 'echo MESSAGE: left out: the device has no wgmma')}\n{PASSED}")
        run_test(self.part(), "test_cuda_gemm", 20)
        self.assertEqual(self.line("test_cuda_gemm: three")["why"], "the device has no wgmma")

    def test_a_missing_program_and_a_test_without_cases_fail(self):
        with self.assertRaisesRegex(Failed, "device_tests was not built: doctest's header"):
            run_test(self.part(), "test_cuda_gemm", 20)
        self.program("device_tests", "echo '[doctest] listing all test case names'")
        with self.assertRaisesRegex(Failed, "test_cuda_gemm has no test case"):
            list_cases(self.part(), "test_cuda_gemm")


class Diagnoses(OnePart):
    def setUp(self):
        super().setUp()
        self.program("device_tests", f"{LIST}\n{only('three', FAILED)}\n{PASSED}")
        self.on_path("compute-sanitizer", 'tool=$2; shift 6; "$@"; echo "========= $tool found something"; '
                     'echo "========= ERROR SUMMARY: 1 error"; exit 9')

    def test_the_case_runs_again_and_then_alone_under_both_tools(self):
        part = self.part()
        run_test(part, "test_cuda_gemm", 20, diagnose=Diagnosis(part, 60).of("test_cuda_gemm"))
        name = "test_cuda_gemm: three"
        self.assertEqual(part.failed, [name])
        self.assertIn("wrong.check()", next(line["again"] for line in self.lines() if "again" in line))
        reports = {line["tool"]: line["said"] for line in self.lines() if "tool" in line}
        self.assertEqual(reports, {tool: f"========= {tool} found something\n========= ERROR SUMMARY: 1 error"
                                for tool in ("memcheck", "racecheck")})
        self.assertGreaterEqual(sum("mismatch" in line for line in self.lines()), 2)  # the first and the repeated one

    def test_all_diagnoses_together_have_a_time_limit(self):
        part = self.part()
        run_test(part, "test_cuda_gemm", 20, diagnose=Diagnosis(part, 0).of("test_cuda_gemm"))
        self.assertEqual(self.line("test_cuda_gemm: three", diagnosis="left to phase 2, part red")["part"], "parity")

    def test_only_one_case_of_a_test_is_diagnosed_immediately(self):
        self.program("device_tests", f"{LIST}\n{FAILED}")
        part = self.part()
        run_test(part, "test_cuda_gemm", 20, diagnose=Diagnosis(part, 60).of("test_cuda_gemm"))
        self.assertEqual(len(part.failed), 2)
        self.assertEqual(len([line for line in self.lines() if "tool" in line]), 2)
        self.line("test_cuda_gemm: three", diagnosis="left to phase 2, part red")

    def test_a_sanitizer_that_does_not_finish_is_skipped(self):
        for script, why in [('echo "========= COMPUTE-SANITIZER"; echo "========= Error: Device not supported"; exit 1',
                             "memcheck did not finish: .*Device not supported"),
                            ('echo "========= COMPUTE-SANITIZER"; sleep 600', "memcheck took longer than 1 s")]:
            self.on_path("compute-sanitizer", script)
            with self.assertRaisesRegex(Skipped, f"(?s){why}"):
                sanitize(self.part(), "memcheck", "test_cuda_gemm", "three", None, 1)


class Red(OnePart):
    def test_without_results_of_phase_1_the_part_is_skipped(self):
        with self.assertRaisesRegex(Skipped, "there are no results of phase 1"):
            red.run(self.part("red"))

    def test_failed_cases_are_those_whose_last_result_is_a_failure(self):
        def line(case, result, part="parity"):
            return {"part": part, "case": case, "result": result}

        lines = [line("test_cuda_gemm: one", "failed"), line("test_cuda_rope", "ok"), line("steps", "failed", "steps"),
                 line("test_cuda_model: x: y", "failed", "wgmma"), line("test_cuda_draw: z", "failed"), line("test_cuda_draw", "ok")]
        self.assertEqual(red.failed_cases(lines), [("parity", "test_cuda_gemm", "one"), ("wgmma", "test_cuda_model", "x: y")])
