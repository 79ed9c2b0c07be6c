"""Configures and builds with CMake what the other parts run."""

import os
import shutil
from pathlib import Path

from .report import Failed, run_program

NATIVE = Path(__file__).resolve().parents[2]
CARRIED = NATIVE / "build/carried"  # headers brought along to a machine that lacks them
DEVICE_TESTS = ["test_cuda_elementwise", "test_cuda_rope", "test_cuda_gemm", "test_cuda_attention", "test_cuda_draw", "test_cuda_model", "test_cuda_parallel"]

WGMMA_TEST = "test_cuda_gemm_wgmma"
CUBLASLT_TEST = "test_cuda_gemm_cublaslt"


RANKS_TEST = "test_cuda_sharded"
CPU_RANKS_TESTS = ["test_rank_threads", "test_sharded_plan", "test_sharded"]


def build(report, options) -> None:
    cuda = options.device == "cuda"
    if cuda and not shutil.which("nvcc") and not os.environ.get("CUDACXX"):
        raise Failed("nvcc is not on the PATH")
    generator = ["-G", "Ninja"] if shutil.which("ninja") else []
    carried = [f"-DDOCTEST_INCLUDE_DIR={CARRIED}"] if (CARRIED / "doctest/doctest.h").exists() else []
    run_program(["cmake", "-S", NATIVE, "-B", options.build_dir, *generator, "-DCMAKE_BUILD_TYPE=Release",
                 f"-DAPAR_CUDA={'ON' if cuda else 'OFF'}", f"-DAPAR_CUDA_DEVICE_TESTS={'ON' if cuda else 'OFF'}",
                 *(["-DAPAR_CUDA_ARCHITECTURES=90a-real"] if cuda and hopper() else []),
                 "-DAPAR_TESTS=ON", "-DAPAR_BENCH=ON", *carried])
    targets = ["apar_logits", "apar_bench_device"]
    if cuda:
        targets += ["apar_cuda", "apar_bench_kernels"]
    if doctest(options):
        tests = [*DEVICE_TESTS, WGMMA_TEST, CUBLASLT_TEST]
        tests.append(RANKS_TEST)
        targets += [f"device_{name}" for name in tests] if cuda else tests + CPU_RANKS_TESTS
    else:
        report.line(part="build", case="tests", result="skipped", why=f"doctest is not installed: put "
                    f"doctest/doctest.h into {CARRIED}")
    run_program(["cmake", "--build", options.build_dir, "--parallel", os.cpu_count(), "--target", *targets])


def doctest(options) -> bool:
    cache = (options.build_dir / "CMakeCache.txt").read_text()
    return "DOCTEST_INCLUDE_DIR:PATH=/" in cache


def hopper() -> bool:
    from .report import first_line

    return first_line(["nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"]) == "9.0"
