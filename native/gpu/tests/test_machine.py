import sys
from unittest import mock

from verification import machine

from .support import OnePart


class Gpu(OnePart):
    def test_nvidia_smi_describes_the_gpu(self):
        self.on_path("nvidia-smi", "echo 'NVIDIA H200, 9.0, 580.1, 143771 MiB'")
        self.assertEqual(machine.gpu(), {"gpu": "NVIDIA H200", "capability": "9.0", "driver": "580.1", "memory": "143771 MiB"})

    def test_without_nvidia_smi_the_drivers_library_describes_the_gpu(self):
        self.on_path("nvidia-smi", "exit 9")
        python = self.program("python", 'echo "$*" | grep -q verification.machine && echo "NVIDIA H100 80GB HBM3, 9.0"')
        with mock.patch.object(sys, "executable", str(python)):
            self.assertEqual(machine.gpu(), {"gpu": "NVIDIA H100 80GB HBM3", "capability": "9.0"})

    def test_an_unknown_gpu_is_reported_as_unknown(self):
        self.on_path("nvidia-smi", "exit 9")
        self.assertEqual(machine.gpu(), {"gpu": "unknown"})

    def test_the_runs_first_line_is_used_before_the_driver(self):
        self.on_path("nvidia-smi", "echo 'NVIDIA A100, 8.0, 1, 1'")
        begin = {"part": "verify", "case": "begin", "gpu": "NVIDIA H100", "capability": "9.0"}
        self.assertTrue(machine.is_hopper(self.part(earlier=[begin])))
        self.assertFalse(machine.is_hopper(self.part()))
