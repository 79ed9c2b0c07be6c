"""transformers' generate on the same shape: static cache, torch.compile; one row, and branches as a batch."""

import time

from .bench import OWN, SHARED
from .llama import LLAMA_7B
from .report import Skipped

NEW_TOKENS = 50


def peer(report, options) -> None:
    if options.device == "cpu":
        raise Skipped("the peer is transformers on a GPU")
    try:
        import torch
        import transformers
    except ImportError as missing:
        raise Skipped(f"{missing.name} is not installed") from missing
    s = LLAMA_7B
    config = transformers.LlamaConfig(
        vocab_size=s.vocab, hidden_size=s.hidden, intermediate_size=s.inner, num_hidden_layers=s.layers,
        num_attention_heads=s.heads, num_key_value_heads=s.kv_heads, max_position_embeddings=s.context)
    torch.manual_seed(1)
    with torch.device("cuda"):
        model = transformers.LlamaForCausalLM(config).to(torch.bfloat16).eval()
    # With a static cache generate compiles its decoding steps (mode "reduce-overhead") by itself.
    model.generation_config.cache_implementation = "static"
    model.generation_config.eos_token_id = None
    for rows in [1, 32]:
        ids = torch.randint(0, s.vocab, (rows, SHARED), device="cuda")

        def run(count: int) -> None:
            model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=count,
                           min_new_tokens=count, pad_token_id=0)

        # The prompt's pass is in both: their difference is decoding alone. A cache of another length compiles anew.
        counts = (2, 2 + NEW_TOKENS)
        for count in counts * 2:
            run(count)
        short, long = (timed(torch, run, count) for count in counts)
        step = (long - short) / NEW_TOKENS
        report.line(part="peer", case=f"decode {rows} {SHARED} {OWN}", tokens_per_s=round(rows / step, 1),
                    step_us=round(step * 1e6, 1), compiled=hasattr(model, "_compiled_call"),
                    transformers=transformers.__version__, torch=torch.__version__)


def timed(torch, run, count: int) -> float:
    times = []
    for _ in range(3):
        torch.cuda.synchronize()
        began = time.perf_counter()
        run(count)
        torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    return sorted(times)[1]
