"""The tests of the CUDA backend on the device (or, on the CPU, on the emulator), and again under compute-sanitizer."""

import os
import re
import shutil

from .build import CUBLASLT_TEST, DEVICE_TESTS, WGMMA_TEST, doctest, hopper
from .report import Failed, Skipped

# The kernels' tests, cases of small shapes alone: a sanitizer takes many times as long. Whole models add no kernel.
SANITIZED = {
    "test_cuda_rope": "*",
    "test_cuda_gemm": "packed products*,plain products*",
    "test_cuda_attention": "*kernel*",
    "test_cuda_draw": "greedy*,the same tokens*",
    "test_cuda_elementwise": "*",
}


def test_path(options, name: str):
    prefix = "device_" if options.device == "cuda" else ""
    path = options.build_dir / "test/cuda" / (prefix + name)
    if not doctest(options):
        raise Skipped("doctest was not found when building")
    if not path.exists():
        raise Failed(f"{path} is missing: run the part build")
    return path


def run_test(report, options, part: str, name: str, under=(), case: str = "", filter: str = "*", **how) -> str:
    command = [*under, test_path(options, name), f"--test-case={filter}"]
    output = report.program(command, **how).decode(errors="replace")
    cases = int(re.search(r"test cases:\s*(\d+)", output).group(1))
    if cases == 0:
        raise Failed(f"{name} has no test case {filter}")
    checks = re.search(r"assertions:\s*(\d+)", output)
    report.line(part=part, case=case or name, result="ok", on="device" if options.device == "cuda" else "emulator",
                test_cases=cases, assertions=int(checks.group(1)))
    return output


def parity(report, options) -> None:
    how = {"env": {**os.environ, "APAR_CUDA_GEMM": "mma"}, "limit": 60 if options.device == "cuda" else 180}
    for name in DEVICE_TESTS:
        with report.attempt("parity", name):
            run_test(report, options, "parity", name, **how)


def wgmma(report, options) -> None:
    cuda = options.device == "cuda"
    if cuda and not hopper():
        raise Skipped("wgmma is Hopper's, compute capability 9.0")
    limit = {"limit": 60}  # a barrier that nobody arrives at would hold it for ever
    said = re.search(r"mma\.sync's bits: (\w+)", run_test(report, options, "wgmma", WGMMA_TEST, **limit))
    report.line(part="wgmma", case="the same bits as mma.sync", result=said.group(1))
    whole = {"env": {**os.environ, "APAR_CUDA_GEMM": "wgmma"}, "limit": 120}
    run_test(report, options, "wgmma", "test_cuda_model", **whole)
    time_products(report, options, "wgmma")


def cublaslt(report, options) -> None:
    if "there is no cuBLASLt" in run_test(report, options, "cublaslt", CUBLASLT_TEST, limit=60):
        raise Skipped("libcublasLt is not on this machine")
    time_products(report, options, "cublaslt")


def time_products(report, options, choice: str) -> None:
    if options.device == "cuda":
        program = [options.build_dir / "apar_bench_kernels", choice]
        report.results(program, lambda line: report.detail(**{**line, "gemm": choice}), limit=60)


def sanitize(report, options) -> None:
    if options.device == "cpu":
        raise Skipped("compute-sanitizer watches a GPU; on the CPU the emulator looks for races and bounds in part parity")
    if not shutil.which("compute-sanitizer"):
        raise Skipped("compute-sanitizer is not installed")
    for tool in ["memcheck", "racecheck"]:
        under = ["compute-sanitizer", "--tool", tool, "--error-exitcode", "9"]
        for name, filter in SANITIZED.items():
            with report.attempt("sanitize", f"{tool} {name}"):
                run_test(report, options, "sanitize", name, under, f"{tool} {name}", filter, limit=60)
