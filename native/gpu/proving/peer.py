"""transformers' generate on the same shape: static cache, torch.compile; one row, and branches as a batch. What is timed runs
as a program of its own (`python -m proving.peer`, one JSON line per batch size as soon as it is known), so that a compiler
that hangs can be ended."""

import gc
import importlib.util
import inspect
import json
import os
import sys
import time

from .llama import LLAMA_7B
from .report import Skipped
from .targets import CONTEXT

ROWS = [1, 32, 350]
SHARED, OWN = map(int, CONTEXT.split())
CACHE_TOKENS = 512  # the same for every number of new tokens, so that a batch size compiles once
LIMIT = 200


def peer(report, options) -> None:
    if options.device == "cpu":
        raise Skipped("the peer is transformers on a GPU")
    for name in ("torch", "transformers"):
        if importlib.util.find_spec(name) is None:
            raise Skipped(f"{name} is not installed")

    def add(line: dict) -> None:
        if line.get("result") == "failed":
            report.fail("peer", line["case"], line["why"])
        else:
            report.line(**line)

    folder = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}
    report.results([sys.executable, "-m", "proving.peer"], add, cwd=folder, env=environment, limit=LIMIT)


def new_cache(transformers, model, rows: int):
    """Its arguments went by several names, and of late it needs but two."""
    known = inspect.signature(transformers.StaticCache.__init__).parameters
    wanted = {"config": model.config, "max_cache_len": CACHE_TOKENS, "device": model.device, "dtype": model.dtype,
              "batch_size" if "batch_size" in known else "max_batch_size": rows}
    return transformers.StaticCache(**{name: value for name, value in wanted.items() if name in known})


def measure(torch, transformers, model, rows: int) -> dict:
    torch._dynamo.reset()  # else a second batch size is compiled for any
    torch._dynamo.utils.counters.clear()
    model.__dict__.pop("_compiled_call", None)
    cache = new_cache(transformers, model, rows)
    ids = torch.randint(0, model.config.vocab_size, (rows, SHARED), device=model.device)

    def seconds(count: int) -> float:
        cache.reset()
        synchronize(torch, model)
        began = time.perf_counter()
        # With a static cache generate compiles its decoding steps (mode "reduce-overhead") by itself.
        out = model.generate(ids, attention_mask=torch.ones_like(ids), past_key_values=cache, do_sample=False,
                             max_new_tokens=count, min_new_tokens=count, pad_token_id=0)
        synchronize(torch, model)
        assert out.shape[1] == SHARED + count, out.shape
        return time.perf_counter() - began

    # The prompt's pass is in both: their difference is decoding alone.
    short, long = 2, 2 + OWN
    for count in (long, short):
        seconds(count)
    before = compiled_graphs(torch)
    repeats = 3 if rows <= 32 else 1
    times = {count: sorted(seconds(count) for _ in range(repeats))[repeats // 2] for count in (short, long)}
    step = (times[long] - times[short]) / OWN
    line = {"tokens_per_s": round(rows / step, 1), "step_us": round(step * 1e6, 1), "graphs": before}
    compiled = before > 0 and compiled_graphs(torch) == before
    if not compiled:
        line.update(result="invalid", why="generate did not compile" if before == 0 else "it compiled while it was timed")
    return {**line, "compiled": compiled}


def compiled_graphs(torch) -> int:
    return torch._dynamo.utils.counters["stats"]["unique_graphs"]


def synchronize(torch, model) -> None:
    if model.device.type == "cuda":
        torch.cuda.synchronize()


def new_model(torch, transformers, shape, device: str):
    config = transformers.LlamaConfig(
        vocab_size=shape.vocab, hidden_size=shape.hidden, intermediate_size=shape.inner, num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads, num_key_value_heads=shape.kv_heads, max_position_embeddings=shape.context)
    torch.manual_seed(1)
    with torch.device(device):
        model = transformers.LlamaForCausalLM(config).to(torch.bfloat16).eval()
    model.generation_config.eos_token_id = None
    return model


def main() -> None:
    import torch
    import torch._dynamo
    import transformers

    versions = {"transformers": transformers.__version__, "torch": torch.__version__}
    model = new_model(torch, transformers, LLAMA_7B, "cuda")
    for rows in ROWS:
        line = {"part": "peer", "case": f"decode {rows} {CONTEXT}"}
        try:
            line.update(measure(torch, transformers, model, rows))
        except torch.cuda.OutOfMemoryError:
            line.update(result="skipped", why="out of memory")
        except Exception as failure:  # the other batch sizes still count
            line.update(result="failed", why=f"{type(failure).__name__}: {failure}"[-600:])
        print(json.dumps({**line, **versions}), flush=True)
        gc.collect()
        torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
