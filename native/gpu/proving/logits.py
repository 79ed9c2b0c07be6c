"""Logits of a random Llama against the trainer's plain PyTorch model in float32, on the same weights."""

import sys
from pathlib import Path

import numpy as np

from .build import NATIVE
from .llama import Shape, from_safetensors
from .report import Failed, run_program

SHAPE = Shape(vocab=1000, hidden=512, inner=1376, layers=4, heads=8, kv_heads=4, head_dim=64, context=512)
TOKENS = 200
# Largest difference over the largest logit. f32: the order of sums. bf16: what enters a linear layer, keys and values are
# rounded to 8 bits (2^-9), layer after layer. int8 and int4: steps of 1/127 and 1/7 of 32 weights' largest.
BOUNDS = {"f32": 1e-4, "bf16": 3e-2, "int8": 6e-2, "int4": 0.5}


def logits(report, options) -> None:
    sys.path.insert(0, str(NATIVE.parent / "training/torch"))
    import torch
    from apar_train import safetensors
    from apar_train.model import Config, LlamaForCausalLM

    torch.manual_seed(1)
    config = Config(vocab_size=SHAPE.vocab, hidden_size=SHAPE.hidden, intermediate_size=SHAPE.inner,
                    num_hidden_layers=SHAPE.layers, num_attention_heads=SHAPE.heads, num_key_value_heads=SHAPE.kv_heads,
                    head_dim=SHAPE.head_dim, rms_norm_eps=SHAPE.eps, rope_theta=SHAPE.theta,
                    max_position_embeddings=SHAPE.context, tie_word_embeddings=False)
    model = LlamaForCausalLM(config)
    # Wide enough that attention is far from even; exact in bf16, so that every format starts from the same weights.
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" not in name:
                parameter.mul_(3)
            parameter.copy_(parameter.to(torch.bfloat16).float())
    path = Path(options.out) / "logits.safetensors"
    safetensors.save(model.state_dict(), path)
    ids = torch.randint(0, SHAPE.vocab, (1, TOKENS))
    with torch.no_grad():
        want = model(ids)[0].numpy()
    for dtype, bound in BOUNDS.items():
        job = from_safetensors(SHAPE, path)
        job += [f"dtype {dtype}", f"device {options.device}", f"path {TOKENS} {' '.join(map(str, ids[0].tolist()))}"]
        raw = run_program([options.build_dir / "apar_logits"], input="\n".join(job).encode() + b"\n").stdout
        got = np.frombuffer(raw, dtype="<f4").reshape(TOKENS, SHAPE.vocab)
        error = float(np.abs(got - want).max() / np.abs(want).max())
        same = float((got.argmax(1) == want.argmax(1)).mean())
        report.line(part="logits", case=dtype, error=error, bound=bound, same_argmax=same, torch=torch.__version__)
        if not error < bound:
            raise Failed(f"{dtype}: logits differ by {error:.3g} of the largest, {bound} is allowed")
    path.unlink()
