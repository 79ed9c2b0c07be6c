"""Compares the logits of a random Llama with those of plain_llama in float32, on the same
weights."""

from typing import List

import numpy as np

from ..models.llama import CUDA_ONLY, Shape, from_safetensors
from ..part import Failed, Part, main
from .peer import import_torch

SHAPE = Shape(vocab=1000, hidden=512, inner=1376, layers=4, heads=8, kv_heads=4, head_dim=64, context=512)
TOKENS = 200
# Bounds of the largest difference, divided by the largest logit. PyTorch computes with the weights as rounded by the
# format. f32 differs by the order of sums. In the other formats the inputs of linear layers, keys and values are
# rounded to 8 significant bits (2^-9) in every layer; on the CPU, int8 and int4 round inputs to 8-bit integers.
BOUNDS = {"f32": 1e-4, "bf16": 3e-2, "f16": 3e-2, "fp8": 3e-2, "int8": 0.1, "int4": 0.1, "int4-g128": 3e-2}
GROUPS = {"int8": 32, "int4": 32, "int4-g128": 128}


def kept(weight, dtype: str):
    """A linear layer's weights as rounded by the format. int8 and int4 have one scale (f16) per group of inputs, and
    the group's largest weight becomes 127 or -8; in int4-g128, with zero points, 0 to 15 span the group and zero
    (native/ops/cpu/packed.cpp, native/ops/cuda/gemm/weight_tiles.cpp)."""
    if dtype == "f16":
        return weight.half().float()
    if dtype == "fp8":
        import torch

        scale = weight.abs().amax(-1, keepdim=True) / 448
        return (weight / scale).to(torch.float8_e4m3fn).float() * scale
    if dtype not in GROUPS:
        return weight
    outputs, inputs = weight.shape
    padded = weight.new_zeros(outputs, -(-inputs // GROUPS[dtype]) * GROUPS[dtype])
    padded[:, :inputs] = weight
    groups = padded.reshape(outputs, -1, GROUPS[dtype])
    if dtype == "int4-g128":
        least, most = groups.amin(-1, keepdim=True).clamp(max=0), groups.amax(-1, keepdim=True).clamp(min=0)
        scale = ((most - least) / 15).half().float()
        zero = (-least / scale).round().clamp(0, 15)
        steps = (groups / scale).round().clamp(-zero, 15 - zero)
        return (steps * scale).reshape(padded.shape)[:, :inputs]
    largest = groups.gather(-1, groups.abs().argmax(-1, keepdim=True))
    scale = largest.abs() / 127 if dtype == "int8" else largest / -8
    scale = scale.half().float()
    steps = (groups / scale).round().clamp(-127 if dtype == "int8" else -8, 127 if dtype == "int8" else 7)
    return (steps * scale).reshape(padded.shape)[:, :inputs]


def plain_logits(model, ids) -> np.ndarray:
    import torch

    with torch.no_grad():
        return model(ids)[0].numpy()


def engine_logits(part: Part, job: List[str]) -> np.ndarray:
    raw = part.program([part.programs / "apar_logits"], input="\n".join(job).encode() + b"\n", binary=True, limit=30)
    return np.frombuffer(raw, dtype="<f4").reshape(TOKENS, SHAPE.vocab)


def largest_difference(got: np.ndarray, want: np.ndarray) -> float:
    """Relative to the largest logit."""
    return float(np.abs(got - want).max() / np.abs(want).max())


def run(part: Part) -> None:
    torch = import_torch(part, needs_device=False)
    from .. import safetensors_file
    from ..models.plain_llama import Config, LlamaForCausalLM

    torch.manual_seed(1)
    config = Config(vocab_size=SHAPE.vocab, hidden_size=SHAPE.hidden, intermediate_size=SHAPE.inner,
                    num_hidden_layers=SHAPE.layers, num_attention_heads=SHAPE.heads, num_key_value_heads=SHAPE.kv_heads,
                    head_dim=SHAPE.head_dim, rms_norm_eps=SHAPE.eps, rope_theta=SHAPE.theta,
                    max_position_embeddings=SHAPE.context, tie_word_embeddings=False)
    model = LlamaForCausalLM(config)
    # Large enough weights that attention is far from uniform, and exact in bf16, so that all formats start from the
    # same weights.
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" not in name:
                parameter.mul_(3)
            parameter.copy_(parameter.to(torch.bfloat16).float())
    path = part.build_dir / "logits.safetensors"
    safetensors_file.save(model.state_dict(), path)
    ids = torch.randint(0, SHAPE.vocab, (1, TOKENS))
    exact = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    for dtype, bound in BOUNDS.items():
        if not part.cuda and dtype in CUDA_ONLY:
            part.skip(dtype, f"only CUDA devices support {dtype} weights")
            continue
        with part.attempt(dtype):
            with torch.no_grad():
                for name, parameter in model.named_parameters():
                    parameter.copy_(kept(exact[name], dtype) if "proj" in name or "lm_head" in name else exact[name])
            want = plain_logits(model, ids)
            job = from_safetensors(SHAPE, path)
            job += [f"dtype {dtype}", f"device {part.device}", f"path {TOKENS} {' '.join(map(str, ids[0].tolist()))}"]
            got = engine_logits(part, job)
            error = largest_difference(got, want)
            same = float((got.argmax(1) == want.argmax(1)).mean())
            part.result(dtype, error=error, bound=bound, same_argmax=same, torch=torch.__version__)
            if not error < bound:
                far = np.flatnonzero(~(np.abs(got - want).max(1) < bound * np.abs(want).max()))
                # Both are deterministic: whichever differs when repeated is at fault.
                again = {"engine_repeated": largest_difference(engine_logits(part, job), got),
                         "reference_repeated": largest_difference(plain_logits(model, ids), want)}
                part.result(dtype, rows_that_differ=len(far), first_row=int(far[0]), **again)
                raise Failed(f"{dtype}: logits differ by {error:.3g} of the largest, {bound} is allowed")
    path.unlink()


if __name__ == "__main__":
    main(run)
