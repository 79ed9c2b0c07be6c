"""The script as a whole, on stand-ins for its programs."""

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

    def test_one_that_is_ended_says_so_and_names_what_it_did_not_come_to(self):
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

    def test_single_parts_are_built_for_first_unless_they_need_no_programs(self):
        self.on_path("cmake", "echo no compiler; exit 1")
        run = self.run_it("steps")
        self.assertEqual(run.returncode, 1)
        self.assertEqual((self.last()["failed"], self.last()["not_shown"]), (["build"], ["steps"]))
        self.assertEqual(self.run_it("floors").returncode, 2)  # nothing was shown

    def test_what_was_asked_wrongly_is_said_in_a_line(self):
        for arguments, why in [(["nothing"], "no such part: nothing; there are attention, "), (["1", "2"], "one phase at a time"),
                               (["steps", "--programs", "/nowhere"], "there is no folder /nowhere")]:
            run = self.run_it(*arguments)
            self.assertEqual(run.returncode, 2)
            self.assertIn(why, run.stderr)
