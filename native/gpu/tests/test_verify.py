"""The whole script, with stand-ins for its programs."""

import json
import signal
import subprocess
import sys
import time

from verification.part import NATIVE

from .support import InFolder

COMMAND = [sys.executable, NATIVE / "gpu/verify"]


class Verify(InFolder):
    def run_it(self, *arguments):
        command = [*COMMAND, *arguments, "--device", "cpu", "--build-dir", self.folder / "build", "--out", self.folder / "out"]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def last(self, name="parts"):
        return json.loads((self.folder / f"out/{name}.jsonl").read_text().splitlines()[-1])

    def test_a_terminated_run_is_marked_and_lists_the_parts_that_did_not_run(self):
        program = self.program("programs/test/cuda/test_cuda_elementwise", "sleep 600")
        command = [*COMMAND, "parity", "floors", "--device", "cpu", "--programs", program.parents[2], "--build-dir",
                   self.folder / "build", "--out", self.folder / "out"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        process.stdout.readline()
        time.sleep(1)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
        self.assertEqual(process.returncode, 143)
        self.assertEqual((self.last()["result"], self.last()["not_shown"]), ("interrupted", ["parity", "floors"]))

    def test_part_build_runs_before_single_parts_that_need_programs(self):
        self.on_path("cmake", "echo no compiler; exit 1")
        run = self.run_it("steps")
        self.assertEqual(run.returncode, 1)
        self.assertEqual((self.last()["failed"], self.last()["not_shown"]), (["build"], ["steps"]))
        self.assertEqual(self.run_it("floors").returncode, 2)  # no part was verified

    def test_wrong_arguments_are_reported(self):
        for arguments, why in [(["nothing"], "no such part: nothing; the parts are attention, "), (["1", "2"], "one phase at a time"),
                               (["steps", "--programs", "/nowhere"], "there is no folder /nowhere")]:
            run = self.run_it(*arguments)
            self.assertEqual(run.returncode, 2)
            self.assertIn(why, run.stderr)
