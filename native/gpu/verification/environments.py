"""The environment variables with which a part runs a test. Part red runs the test with the same ones."""

from typing import Dict

from .libraries import library_environment


def environment_of(part: str, test: str) -> Dict[str, str]:
    if part == "parity":  # the kernels for which the branching invariant holds; other parts test the others
        return {"APAR_CUDA_GEMM": "mma"}
    if part == "wgmma" and test == "test_cuda_model":
        return {"APAR_CUDA_GEMM": "wgmma"}
    if part == "cublaslt":
        return library_environment("libcublasLt", "APAR_CUBLASLT_LIBRARY")
    if part == "ranks":
        return library_environment("libnccl", "APAR_NCCL_LIBRARY")
    return {}
