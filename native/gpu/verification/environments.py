"""What the environment says when a part runs a test: part red runs it in the same one."""

from typing import Dict

from .libraries import library_environment


def environment_of(part: str, test: str) -> Dict[str, str]:
    if part == "parity":  # the products that hold the branching invariant; the others have parts of their own
        return {"APAR_CUDA_GEMM": "mma"}
    if part == "wgmma" and test == "test_cuda_model":
        return {"APAR_CUDA_GEMM": "wgmma"}
    if part == "cublaslt":
        return library_environment("libcublasLt", "APAR_CUBLASLT_LIBRARY")
    if part == "ranks":
        return library_environment("libnccl", "APAR_NCCL_LIBRARY")
    return {}
