"""Runs both phases as on a machine with a GPU, but with stand-ins for the programs, so that all Python code of a real
run is executed. As a program it prints the time of each part, with stand-ins that take as long as the real programs are
expected to:

cd native/gpu && python3 -m tests.rehearsal [--forecast] [--red]"""

import argparse
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Dict, List

from verification.part import read_lines
from verification.phases import PHASES

GPU = Path(__file__).resolve().parents[1]
NATIVE = GPU.parent
REHEARSED = "NVIDIA H100 80GB HBM3"

# The scripts of the stand-ins. {sanitizer}, {test}, ... are their durations, {native} is the folder of the sources, and
# {programs} that of the programs built for the CPU.
STAND_INS: Dict[str, str] = {
    "nvidia-smi": f"echo '{REHEARSED}, 9.0, 580.0, 81559 MiB'",
    "nvcc": "echo 'Build rehearsed'",
    "compute-sanitizer": "shift 6; sleep {sanitizer}; \"$@\" && echo '========= ERROR SUMMARY: 0 errors' && "
                         "echo '========= RACECHECK SUMMARY: 0 hazards displayed' || { echo '========= Invalid __global__ read'; exit 9; }",
    "device_tests": "cd {gpu} && exec {python} -m tests.rehearsal device_tests {native} {test} {failing} \"$@\"",
    "apar_logits": "sed 's/^device cuda/device cpu/; s/^dtype f16/dtype f32/; s/^dtype fp8/dtype f32/; s/^dtype int4-g128/dtype f32/' | {programs}/apar_logits",
    "apar_generate": "sed 's/^device cuda/device cpu/' | {programs}/apar_generate",
    "apar_bench_steps": "cd {gpu} && exec {python} -m tests.rehearsal steps {open} {case}",
    "apar_bench_kernels": "cd {gpu} && exec {python} -m tests.rehearsal kernels {kernel} \"$@\"",
}
FORECAST = {"sanitizer": 8, "test": 0.8, "open": 9, "case": 1.2, "kernel": 2}  # expected seconds
IMMEDIATE = {name: 0 for name in FORECAST}
FAILING_CASE = "split sums"


def write_stand_ins(folder: Path, programs: Path, seconds: Dict[str, float], failing: bool) -> None:
    values = {**seconds, "native": NATIVE, "programs": programs, "python": sys.executable, "gpu": GPU,
              "failing": int(failing)}
    for name, script in STAND_INS.items():
        for key, value in values.items():
            script = script.replace(f"{{{key}}}", str(value))
        path = folder / name
        path.write_text(f"#!/bin/bash\n{script}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)


def rehearse(what: str, folder: Path, programs: Path, seconds: Dict[str, float], failing: bool = False) -> List[dict]:
    """Runs a phase or parts and returns the results. `folder` keeps the build folder, and with it the results of phase
    1."""
    stand_ins = folder / "programs"
    stand_ins.mkdir(exist_ok=True)
    write_stand_ins(stand_ins, programs, seconds, failing)
    # A forecast of the times keeps the limits of a real run; tests may run beside others.
    patience = "1" if seconds is FORECAST else "6"
    environment = {**os.environ, "PATH": f"{stand_ins}{os.pathsep}{os.environ['PATH']}"}
    subprocess.run([sys.executable, GPU / "verify", *what.split(), "--device", "cuda", "--programs", stand_ins, "--build-dir", folder / "build",
                    "--out", folder / "out", "--patience", patience], env=environment, stdout=subprocess.DEVNULL, check=False)
    name = f"phase-{what}" if what in PHASES else "parts"
    return read_lines(folder / "out" / f"{name}.jsonl")


# The stand-ins themselves, as programs.

def device_tests(arguments: List[str]) -> int:
    import time

    native, seconds, failing = Path(arguments[0]), float(arguments[1]), arguments[2] == "1"
    source = next(word.partition("*")[2] for word in arguments if word.startswith("--source-file="))
    if "--list-test-cases" in arguments:
        names = re.findall(r'^TEST_CASE\("((?:[^"\\]|\\.)*)"', (native / "test/cuda" / source).read_text(), re.MULTILINE)
        print("\n".join(["[doctest] listing all test case names", "=" * 20, *names, "=" * 20,
                         f"[doctest] unskipped test cases passing the current filters: {len(names)}"]))
        return 0
    time.sleep(seconds)
    if failing and FAILING_CASE in " ".join(arguments):
        print('test_cuda_gemm.cpp:1: ERROR: CHECK( wrong.check() ) is NOT correct!\n'
              '{"mismatch": {"what": "gemm_mma rehearsed", "wrong": 2, "of": 9, "nan": 1, "first": [[0, 1, NaN, 2.5]]}}\n'
              "[doctest] test cases: 1 | 0 passed | 1 failed")
        return 1
    print("wgmma has mma.sync's bits: yes\n[doctest] test cases: 1 | 1 passed\n[doctest] assertions: 9 | 9 passed")
    return 0


def steps(arguments: List[str]) -> int:
    import time

    opening, each = map(float, arguments[:2])
    lines = sys.stdin.read().splitlines()
    time.sleep(opening)
    print(json.dumps({"case": "open", "device": f"cuda {REHEARSED} sm_90", "seconds": opening}), flush=True)
    for line in lines:
        if line.split()[0] in ("decode", "sample", "prefill"):
            time.sleep(each)
            print(json.dumps({"case": line, "tokens_per_s": 100.0, "step_us": 10000.0, "p5_us": 9900.0, "p95_us": 10100.0,
                              "device_us": 9800.0, "host_share": 0.02, "steps": 9}), flush=True)
    return 0


def kernels(arguments: List[str]) -> int:
    import time

    time.sleep(float(arguments[0]))
    words = arguments[1:]
    fixed = {"gemm": 4, "attention": 2, "draw": 1}[words[0]]
    name = " ".join(words[:fixed]) if words[0] != "gemm" else f"gemm_{words[1]} {words[2]} {words[3]}"
    for rows in words[fixed:]:
        print(json.dumps({"case": f"{name} {rows}", "us": 10.0, "bytes_per_s": 2e12, "flop_per_s": 3e14}), flush=True)
    return 0


def table(lines: List[dict]) -> str:
    ends = [line for line in lines if line["case"] == "end"]
    return "\n".join(f"{line['part']:>16} {line['result']:>8} {line['seconds']:>7.1f} s  {line.get('why', '')[:90]}" for line in ends)


def main() -> int:
    stand_in = {"device_tests": device_tests, "steps": steps, "kernels": kernels}.get(sys.argv[1] if len(sys.argv) > 1 else "")
    if stand_in:
        return stand_in(sys.argv[2:])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--programs", type=Path, default=NATIVE / "build/release", help="the programs built for the CPU")
    parser.add_argument("--forecast", action="store_true", help="stand-ins take as long as the real programs are expected to")
    parser.add_argument("--red", action="store_true", help="one test case fails")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp())
    try:
        for phase in ("1", "2"):
            seconds = FORECAST if options.forecast else IMMEDIATE
            print(f"phase {phase}\n{table(rehearse(phase, folder, options.programs.resolve(), seconds, options.red))}\n", flush=True)
    finally:
        shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
