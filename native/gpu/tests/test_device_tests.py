"""The device's tests on stand-ins for their program: what is red says why, and what did not run is not green."""

from verification.diagnosis import Diagnosis, sanitize
from verification.part import Failed, OutOfTime, Skipped
from verification.parts import red
from verification.tests_on_device import list_cases, run_test

from .support import OnePart

LIST = """case "$*" in *--list-test-cases*)
echo '[doctest] listing all test case names'; echo =====; echo 'one, two'; echo three; echo =====
echo '[doctest] unskipped test cases passing the current filters: 2'; exit 0;; esac"""
PASSED = "echo '[doctest] test cases: 1 | 1 passed | 0 failed'; echo '[doctest] assertions: 7 | 7 passed'"
RED = r"""echo '/x/test_cuda_gemm.cpp:50: ERROR: CHECK( wrong.check() ) is NOT correct!'
echo '{"mismatch": {"what": "gemm", "wrong": 3, "nan": 1, "first": [[0, 1, NaN, 2.5]]}}'
seq 3000; echo '[doctest] test cases: 1 | 0 passed | 1 failed'; exit 1"""


def only(case: str, script: str) -> str:
    return f'case "$*" in *"{case}"*) {script};; esac'


class Cases(OnePart):
    def stand_in(self, script: str):
        self.program("device_tests", f"{LIST}\n{script}")

    def test_every_case_runs_by_itself_and_counts(self):
        self.stand_in(f'echo "$*" >> "{self.folder}/calls"\n{PASSED}')
        run_test(self.part(), "test_cuda_gemm", 20)
        calls = (self.folder / "calls").read_text().splitlines()
        self.assertEqual(calls, ["--source-file=*test_cuda_gemm.cpp --test-case=one? two",
                                 "--source-file=*test_cuda_gemm.cpp --test-case=three"])
        self.assertEqual(self.line("test_cuda_gemm"), {"part": "parity", "case": "test_cuda_gemm", "result": "ok", "on": "device",
                                                       "test_cases": 2, "assertions": 14})

    def test_a_red_one_keeps_its_first_assertion_and_its_mismatch_and_the_next_one_runs(self):
        self.stand_in(f"{only('one? two', RED)}\n{PASSED}")
        part = self.part()
        run_test(part, "test_cuda_gemm", 20)
        name = "test_cuda_gemm: one, two"
        self.assertEqual(part.failed, [name])
        why = self.line(name, result="failed")["why"]
        self.assertIn("device_tests ended with 1: /x/test_cuda_gemm.cpp:50: ERROR: CHECK( wrong.check() ) is NOT correct!", why)
        mismatch = [line for line in self.lines() if "mismatch" in line]
        self.assertEqual([line["mismatch"]["wrong"] for line in mismatch], [3])
        self.assertFalse(any(line["case"] == "test_cuda_gemm" for line in self.lines()))

    def test_one_that_hangs_crashes_or_runs_nothing_is_red(self):
        for script, why in [("sleep 600", "took longer than 0.3 s"), ("kill -SEGV $$", "was ended by signal 11"),
                            ("echo '[doctest] test cases: 0 | 0 passed'", "no test case ran"), ("echo nothing", "no test case ran")]:
            with self.subTest(why):
                self.printed.truncate(0)
                self.printed.seek(0)
                self.stand_in(script)
                part = self.part()
                run_test(part, "test_cuda_gemm", 0.3)
                self.assertEqual(len(part.failed), 2)
                self.assertIn(why, self.line("test_cuda_gemm: three")["why"])

    def test_out_of_time_is_not_red(self):
        self.stand_in("sleep 600")
        part = self.part(seconds=1.6)
        with self.assertRaises(OutOfTime):
            run_test(part, "test_cuda_gemm", 20)
        self.assertEqual(part.failed, [])

    def test_a_case_that_leaves_itself_out_says_why(self):
        self.stand_in(f"{only('three', 'echo MESSAGE: left out: the device has no wgmma')}\n{PASSED}")
        run_test(self.part(), "test_cuda_gemm", 20)
        self.assertEqual(self.line("test_cuda_gemm: three")["why"], "the device has no wgmma")

    def test_without_the_program_or_without_cases_it_fails(self):
        with self.assertRaisesRegex(Failed, "device_tests was not built: doctest's header"):
            run_test(self.part(), "test_cuda_gemm", 20)
        self.program("device_tests", "echo '[doctest] listing all test case names'")
        with self.assertRaisesRegex(Failed, "test_cuda_gemm has no test case"):
            list_cases(self.part(), "test_cuda_gemm")


class Diagnoses(OnePart):
    def setUp(self):
        super().setUp()
        self.program("device_tests", f"{LIST}\n{only('three', RED)}\n{PASSED}")
        self.on_path("compute-sanitizer", 'tool=$2; shift 6; "$@"; echo "========= $tool found something"; '
                     'echo "========= ERROR SUMMARY: 1 error"; exit 9')

    def test_the_case_again_then_both_tools_on_it_alone(self):
        part = self.part()
        run_test(part, "test_cuda_gemm", 20, diagnose=Diagnosis(part, 60).of("test_cuda_gemm"))
        name = "test_cuda_gemm: three"
        self.assertEqual(part.failed, [name])
        self.assertIn("wrong.check()", next(line["again"] for line in self.lines() if "again" in line))
        said = {line["tool"]: line["said"] for line in self.lines() if "tool" in line}
        self.assertEqual(said, {tool: f"========= {tool} found something\n========= ERROR SUMMARY: 1 error"
                                for tool in ("memcheck", "racecheck")})
        self.assertGreaterEqual(sum("mismatch" in line for line in self.lines()), 2)  # the first and the repeated one

    def test_all_of_them_together_have_a_limit(self):
        part = self.part()
        run_test(part, "test_cuda_gemm", 20, diagnose=Diagnosis(part, 0).of("test_cuda_gemm"))
        self.assertEqual(self.line("test_cuda_gemm: three", diagnosis="left to phase 2, part red")["part"], "parity")


    def test_one_case_of_a_test_is_enough_at_first(self):
        self.program("device_tests", f"{LIST}\n{RED}")
        part = self.part()
        run_test(part, "test_cuda_gemm", 20, diagnose=Diagnosis(part, 60).of("test_cuda_gemm"))
        self.assertEqual(len(part.failed), 2)
        self.assertEqual(len([line for line in self.lines() if "tool" in line]), 2)
        self.line("test_cuda_gemm: three", diagnosis="left to phase 2, part red")

    def test_a_sanitizer_that_comes_to_no_end_says_nothing_of_the_kernel(self):
        for script, why in [('echo "========= COMPUTE-SANITIZER"; echo "========= Error: Device not supported"; exit 1',
                             "memcheck came to no end: .*Device not supported"),
                            ('echo "========= COMPUTE-SANITIZER"; sleep 600', "memcheck took longer than 1 s")]:
            self.on_path("compute-sanitizer", script)
            with self.assertRaisesRegex(Skipped, f"(?s){why}"):
                sanitize(self.part(), "memcheck", "test_cuda_gemm", "three", None, 1)


class Red(OnePart):
    def test_without_phase_1_nothing_is_known(self):
        with self.assertRaisesRegex(Skipped, "phase 1 left no results"):
            red.run(self.part("red"))

    def test_the_cases_whose_last_result_is_a_failure(self):
        def line(case, result, part="parity"):
            return {"part": part, "case": case, "result": result}

        lines = [line("test_cuda_gemm: one", "failed"), line("test_cuda_rope", "ok"), line("steps", "failed", "steps"),
                 line("test_cuda_model: x: y", "failed", "wgmma"), line("test_cuda_draw: z", "failed"), line("test_cuda_draw", "ok")]
        self.assertEqual(red.red_cases(lines), [("parity", "test_cuda_gemm", "one"), ("wgmma", "test_cuda_model", "x: y")])
