"""The steps of models/torch_llama that the parts peer and peer_compiled time, and the check that they compute a
Llama."""

import gc
from contextlib import suppress
from typing import Callable, NamedTuple

import torch

from ..cases import OWN, PREFILLS, SHARED
from ..part import Failed, Part, Skipped
from ..torch_timing import cuda_graph, median_seconds
from .llama import LLAMA_7B, TINY, Shape
from .torch_check import largest_difference
from .torch_llama import Step, TorchLlama, attention_kernel

SAMPLES = {"cuda": 30, "cpu": 3}
CHECKED = Shape(vocab=1000, hidden=256, inner=688, layers=2, heads=2, kv_heads=2, head_dim=128)  # heads as in LLAMA_7B
BOUNDS = {torch.float32: 1e-3, torch.bfloat16: 5e-2}  # differences on CPUs are 1e-6 and 1e-2


class Case(NamedTuple):
    name: str
    rows: int
    tokens: int  # new tokens per row
    context: int  # tokens of a row, including the new ones


DECODE = [Case(f"decode {rows} {SHARED} {OWN}", rows, 1, SHARED + OWN) for rows in (1, 32)]
PREFILL = [Case(f"prefill {tokens}", 1, tokens, tokens) for tokens in PREFILLS]


def new_model(part: Part) -> TorchLlama:
    torch.manual_seed(1)
    return TorchLlama(LLAMA_7B, "cuda", torch.bfloat16) if part.cuda else TorchLlama(TINY, "cpu", torch.float32)


def new_step(model: TorchLlama, case: Case) -> Step:
    ids = model.random_ids(case.rows, case.tokens)
    return Step(model, ids, model.random_cache(case.rows, case.context), case.context - case.tokens)


def prepare(part: Part, step: Step) -> Callable[[], None]:
    return cuda_graph(step) if part.cuda else step


def check(part: Part, shape: Shape, kernel: str, dtype: torch.dtype) -> None:
    """Compares steps with the cache, prepared like the timed steps, with full passes without a cache."""
    model = TorchLlama(shape, part.device, dtype)
    prompt = SHARED + OWN - 1 if part.cuda else 13
    with attention_kernel(kernel):
        error = largest_difference(model, prompt, lambda step: prepare(part, step))
    case, bound = f"cached steps against full passes, {shape.heads} heads on {shape.kv_heads}, {dtype}", BOUNDS[dtype]
    part.result(case, error=error, bound=bound, sdpa=kernel, detail=True)
    if not error < bound:
        raise Failed(f"{case}: logits differ by {error:.3g} of the largest, {bound} is allowed")


def time_case(part: Part, model: TorchLlama, case: Case, kernel: str, kind: str, **fields) -> None:
    try:
        with attention_kernel(kernel):
            step = new_step(model, case)
            seconds = median_seconds(prepare(part, step), part.device, SAMPLES[part.device])
        finite = bool(step.logits.isfinite().all())
    except torch.cuda.OutOfMemoryError as full:
        raise Skipped(f"out of memory: {full}"[:300]) from None
    if not finite:
        raise Failed("the logits are not finite")
    part.result(case.name, tokens_per_s=round(case.rows * case.tokens / seconds, 1), step_us=round(seconds * 1e6, 1), kind=kind,
                sdpa=kernel, torch=torch.__version__, **fields)


def free_memory() -> None:
    gc.collect()  # frees a graph and its tensors
    if torch.cuda.is_available():
        with suppress(RuntimeError):  # the device has failed; the next use of it reports the error
            torch.cuda.empty_cache()
