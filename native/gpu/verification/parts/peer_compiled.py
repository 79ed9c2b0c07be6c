"""Times the decode steps of part peer with layers compiled by torch.compile; the whole step is a CUDA graph as before.
The first mode is the compiler's default, the second one tunes matrix products. Part peer runs this in its own
process."""

from ..part import Failed, Part, Skipped, main
from .peer import import_torch

# The kind by torch.compile's mode. Both are without the compiler's own graphs, because ours contains the whole step.
KINDS = {"default": "compiled", "max-autotune-no-cudagraphs": "compiled, max-autotune"}
MIN_SECONDS = 12  # with less time left, nothing more is compiled


def run(part: Part) -> None:
    torch = import_torch(part)
    if not hasattr(torch, "compile"):
        raise Skipped(f"torch {torch.__version__} has no torch.compile")
    from ..models import torch_steps
    from ..models.torch_llama import ANY, FLASH

    kernel = FLASH if part.cuda else ANY
    model = torch_steps.new_model(part)
    for mode in KINDS if part.cuda else ["default"]:
        for case in torch_steps.DECODE:
            if part.seconds_left() < MIN_SECONDS:
                raise Skipped(f"no time left for {case.name} in mode {mode}")
            with part.attempt(case.name):
                compile_block(model, case, kernel, mode)
                torch_steps.time_case(part, model, case, kernel, KINDS[mode])
            torch_steps.free_memory()


def compile_block(model, case, kernel: str, mode: str) -> None:
    """Compiles one block for all layers. Raises Failed if the logits of a compiled step differ from those of a plain
    one."""
    import torch

    from ..models.torch_check import relative_difference
    from ..models.torch_llama import attention_kernel, block
    from ..models.torch_steps import BOUNDS, new_step

    torch._dynamo.reset()  # otherwise the second number of rows is compiled with a dynamic shape
    step = new_step(model, case)
    logits = []
    with attention_kernel(kernel):
        for model.block in (block, torch.compile(block, mode=mode, fullgraph=True, dynamic=False)):
            logits.append(model(step.ids, step.cache, step.start))
    plain, compiled = logits
    error = relative_difference(compiled, plain)
    if not error < BOUNDS[model.dtype]:
        raise Failed(f"compiled logits differ by {error:.3g} of the largest, {BOUNDS[model.dtype]} is allowed")


if __name__ == "__main__":
    main(run)
