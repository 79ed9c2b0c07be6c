"""Provides the programs that the other parts run. Uses the prepared ones if they were built from these sources and this
machine can load them; otherwise builds them here with CMake."""

import os
import shutil
from pathlib import Path

from ..carried import DOCTEST, carried_programs
from ..machine import is_hopper
from ..part import NATIVE, Failed, Part, Skipped, main
from ..tests_on_device import DEVICE_TESTS

CUDA_TARGETS = ["device_tests", "apar_cuda", "apar_logits", "apar_generate", "apar_bench_steps", "apar_bench_kernels"]
CPU_TARGETS = ["apar_logits", "apar_generate", "apar_bench_steps", *DEVICE_TESTS, "test_rank_threads", "test_sharded_plan",
               "test_sharded"]


def run(part: Part) -> None:
    folder = part.given_programs or part.build_dir
    if part.cuda and not part.given_programs:
        try:
            folder = carried_programs()
            part.program([folder / "device_tests", "--list-test-cases"], limit=20)
        except (Skipped, Failed) as failure:
            part.result("carried programs", result="not used", why=str(failure))
            folder = part.build_dir
    if folder == part.build_dir:
        build(part)
    part.result("programs", folder=str(folder), built="here" if folder == part.build_dir else "before")


def build(part: Part) -> None:
    environment = with_nvcc() if part.cuda else None
    part.program(["cmake", "-S", NATIVE, "-B", part.build_dir, *options(part)], limit=part.seconds_left(), env=environment)
    targets = list(CUDA_TARGETS if part.cuda else CPU_TARGETS)
    if not tests_are_configured(part.build_dir):
        targets = [target for target in targets if "test" not in target]
        part.fail("tests", f"doctest's header is not installed (Debian: doctest-dev), nor is it at {DOCTEST}: run "
                  "native/gpu/prepare on a machine that has it, and copy native/build/carried to this one")
    part.program(["cmake", "--build", part.build_dir, "--parallel", os.cpu_count(), "--target", *targets], limit=part.seconds_left(),
                 env=environment)


def options(part: Part) -> list:
    """CMake's options. A folder that is already configured keeps its build type, generator and CUDA setting."""
    chosen = ["-DAPAR_TESTS=ON"]
    if part.cuda:
        chosen += ["-DAPAR_CUDA=ON", "-DAPAR_CUDA_DEVICE_TESTS=ON"]
        if is_hopper(part):
            chosen.append("-DAPAR_CUDA_ARCHITECTURES=90a-real")
    if not (part.build_dir / "CMakeCache.txt").exists():
        chosen.append("-DCMAKE_BUILD_TYPE=Release")
        if not part.cuda:
            chosen.append("-DAPAR_CUDA=OFF")
        if shutil.which("ninja"):
            chosen += ["-G", "Ninja"]
    if DOCTEST.exists():
        chosen.append(f"-DDOCTEST_INCLUDE_DIR={DOCTEST.parents[1]}")
    return chosen


def with_nvcc() -> dict:
    """The environment for CMake, also if the CUDA toolkit is not on the PATH."""
    if os.environ.get("CUDACXX") or shutil.which("nvcc"):
        return dict(os.environ)
    for home in filter(None, [os.environ.get("CUDA_HOME"), "/usr/local/cuda"]):
        nvcc = Path(home) / "bin/nvcc"
        if nvcc.exists():
            return {**os.environ, "CUDACXX": str(nvcc)}
    raise Failed("there is no nvcc on the PATH or in /usr/local/cuda/bin; set CUDACXX to its path")


def tests_are_configured(build_dir: Path) -> bool:
    cache = build_dir / "CMakeCache.txt"
    return cache.exists() and "DOCTEST_INCLUDE_DIR:PATH=/" in cache.read_text()


if __name__ == "__main__":
    main(run)
