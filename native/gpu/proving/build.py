"""Configures and builds with CMake what the other parts run."""

import os
import shutil
from pathlib import Path

from .report import Failed, first_line

NATIVE = Path(__file__).resolve().parents[2]
CARRIED = NATIVE / "build/carried"  # headers brought along to a machine that lacks them
DEVICE_TESTS = ["test_cuda_elementwise", "test_cuda_rope", "test_cuda_gemm", "test_cuda_attention", "test_cuda_draw", "test_cuda_model", "test_cuda_parallel"]

WGMMA_TEST = "test_cuda_gemm_wgmma"
CUBLASLT_TEST = "test_cuda_gemm_cublaslt"


RANKS_TEST = "test_cuda_sharded"
CPU_RANKS_TESTS = ["test_rank_threads", "test_sharded_plan", "test_sharded"]
BUILD_SECONDS = 300  # a second call on a machine still warm goes on where this one stopped


def build(report, options) -> None:
    cuda = options.device == "cuda"
    environment = with_nvcc() if cuda else None
    generator = ["-G", "Ninja"] if shutil.which("ninja") and not (options.build_dir / "CMakeCache.txt").exists() else []
    carried = [f"-DDOCTEST_INCLUDE_DIR={CARRIED}"] if (CARRIED / "doctest/doctest.h").exists() else []
    report.program(["cmake", "-S", NATIVE, "-B", options.build_dir, *generator, "-DCMAKE_BUILD_TYPE=Release",
                    f"-DAPAR_CUDA={'ON' if cuda else 'OFF'}", f"-DAPAR_CUDA_DEVICE_TESTS={'ON' if cuda else 'OFF'}",
                    *(["-DAPAR_CUDA_ARCHITECTURES=90a-real"] if cuda and hopper() else []),
                    "-DAPAR_TESTS=ON", "-DAPAR_BENCH=ON", *carried], env=environment)
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
    report.program(["cmake", "--build", options.build_dir, "--parallel", os.cpu_count(), "--target", *targets],
                   limit=BUILD_SECONDS, env=environment)


def with_nvcc() -> dict:
    """The environment for CMake: a toolkit need not be on the PATH."""
    if os.environ.get("CUDACXX") or shutil.which("nvcc"):
        return dict(os.environ)
    for home in filter(None, [os.environ.get("CUDA_HOME"), "/usr/local/cuda"]):
        nvcc = Path(home) / "bin/nvcc"
        if nvcc.exists():
            return {**os.environ, "CUDACXX": str(nvcc)}
    raise Failed("there is no nvcc: not on the PATH, not in /usr/local/cuda/bin; CUDACXX may name it")


def doctest(options) -> bool:
    cache = options.build_dir / "CMakeCache.txt"
    return cache.exists() and "DOCTEST_INCLUDE_DIR:PATH=/" in cache.read_text()


def hopper() -> bool:
    return first_line(["nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"]) == "9.0"
