"""Times plain PyTorch on the same shape: models/torch_llama in bf16, with whole steps as CUDA graphs that feed the
chosen token back, and a batch whose rows each have their own context. Then times decoding compiled by torch.compile in
its own process (parts/peer_compiled.py), so that a compiler which hangs does not affect the rest. A case may have
several lines; the fastest is the peer."""

import os
import sys
from contextlib import nullcontext
from typing import Callable, ContextManager

from ..part import NATIVE, Failed, Part, Skipped, main

MIN_COMPILE_SECONDS = 45  # with less time left, the process that compiles is not started
END_SECONDS = 2  # reserved for the end of this part


def run(part: Part) -> None:
    torch = import_torch(part)
    from ..models import torch_steps
    from ..models.llama import TINY
    from ..models.torch_llama import ANY, CUDNN, FLASH

    for shape in (TINY, torch_steps.CHECKED):
        torch_steps.check(part, shape, ANY, torch.float32)
    model = torch_steps.new_model(part)
    time_steps(part, model, FLASH if part.cuda else ANY, "sdpa+cuda-graph" if part.cuda else "sdpa", part.attempt)
    if part.cuda:
        try:
            time_steps(part, model, CUDNN, "sdpa+cuda-graph, cudnn", lambda case: nullcontext())
        except Exception as failure:  # optional, because the results with flash attention are a valid peer
            part.skip("attention by cuDNN", f"{type(failure).__name__}: {failure}"[:600])
    del model
    torch_steps.free_memory()
    compiled_decode(part)


def import_torch(part: Part, needs_device: bool = True):
    try:
        import torch
    except ImportError as missing:
        raise Skipped(f"torch cannot be imported: {missing}") from None
    if part.cuda and needs_device and not torch.cuda.is_available():
        raise Skipped(f"torch {torch.__version__} finds no CUDA device")
    return torch


def time_steps(part: Part, model, kernel: str, kind: str, attempt: Callable[[str], ContextManager]) -> None:
    import torch

    from ..models import torch_steps

    torch_steps.check(part, torch_steps.CHECKED, kernel, torch.bfloat16)
    prefill = torch_steps.PREFILL if part.cuda else torch_steps.PREFILL[:1]  # a long prefill takes seconds on a CPU
    for case in torch_steps.DECODE + prefill:
        with attempt(case.name):
            torch_steps.time_case(part, model, case, kernel, kind)
        torch_steps.free_memory()


def compiled_decode(part: Part) -> None:
    seconds = part.seconds_left() - END_SECONDS
    if seconds < MIN_COMPILE_SECONDS:
        return part.skip("compiled", f"{seconds:.0f} s are left, {MIN_COMPILE_SECONDS} needed")
    command = [sys.executable, "-m", "verification.parts.peer_compiled", part.name, "--device", part.device, "--build-dir",
               part.build_dir, "--seconds", seconds, "--earlier", os.devnull]
    environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(part.build_dir / "inductor")}
    try:
        part.results(command, lambda line: pass_on(part, line), limit=seconds, cwd=NATIVE / "gpu", env=environment)
    except Failed as failure:  # a failure of PyTorch's compiler is not a failure of this backend
        part.skip("compiled", str(failure))


def pass_on(part: Part, line: dict) -> None:
    """Adds a line of the process that compiles. Of its last line only the reason of a skip is used: failed cases have
    their own lines."""
    case, fields = line["case"], {key: value for key, value in line.items() if key not in ("part", "case")}
    if case == "end":
        if line["result"] == "skipped":
            part.skip("compiled", line["why"])
    elif line.get("result") == "failed":
        part.fail(case, line["why"])
    else:
        part.result(case, **fields)


if __name__ == "__main__":
    main(run)
