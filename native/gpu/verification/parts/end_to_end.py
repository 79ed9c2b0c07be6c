"""Answers with forks of the demo model, through the real decoder and without Node: f32 on the device must choose the CPU's
tokens, bf16 may leave them only where two tokens were nearly as likely."""

import json
import os
import statistics
from dataclasses import asdict, dataclass
from typing import List, Optional

from ..answers import Divergence, compare
from ..models.llama import Shape, from_safetensors
from ..part import NATIVE, Failed, Part, main

PROMPTS = NATIVE / "gpu/verification/prompts.json"  # test/native/verify-prompts.test.ts says how they are made
PROGRAM_SECONDS = 15

# More than any answer needs: which branch a limit cuts short depends on the order in which branches run, and so on the pool.
MAX_TOKENS, MAX_BRANCHES, MAX_DEPTH = 900, 16, 4
# Few rows a step and few branches at once: prompts are cut into chunks, and children wait.
STEP_TOKENS, RUNNING_BRANCHES = 32, 24
BLOCK_TOKENS = 16  # kBlockTokens, native/common/step_batch.h

# The largest f32 gap between the two likeliest tokens at which bf16 may choose another. Measured on the CPU with 34 prompts and
# the kernels reference, avx2, avx512 and avx512_bf16: 8 or 9 branches of 235 left the f32 ones, all at gaps below 0.05. Over all
# tokens bf16 moved a gap by 0.015 in the median, and one that was below 0.5 by 0.12 at most; int8 weights already go beyond the
# bound. A CUDA device rounds in much the same places.
BF16_GAP = 0.25


@dataclass(frozen=True)
class Setting:
    device: str
    dtype: str
    gaps: bool = True  # brings the logits to the host; without, a CUDA device draws the tokens itself
    few_blocks: bool = False

    def __str__(self) -> str:
        return f"{self.device} {self.dtype}{'' if self.gaps else ', no gaps'}{', few blocks' if self.few_blocks else ''}"


@dataclass
class Answers:
    setting: Setting
    requests: List[dict]
    totals: dict


class Demo:
    """The demo model's job and its prompts."""

    def __init__(self) -> None:
        fixture = json.loads(PROMPTS.read_text())
        folder = NATIVE.parent / fixture["model"]
        config = json.loads((folder / "config.json").read_text())
        self.texts = [prompt["text"] for prompt in fixture["prompts"]]
        self.prompts = [prompt["ids"] for prompt in fixture["prompts"]]
        self.lines = from_safetensors(shape_of(config), folder / "model.safetensors")
        control = fixture["control"]
        self.lines.append(f"control {control['fork']} {control['child']} {' '.join(map(str, control['eos']))}")

    def job(self, setting: Setting) -> bytes:
        lines = [*self.lines, f"device {setting.device}", f"dtype {setting.dtype}", f"threads {min(os.cpu_count() or 1, 8)}",
                 f"limits {MAX_TOKENS} {MAX_BRANCHES} {MAX_DEPTH}", f"step {STEP_TOKENS} {RUNNING_BRANCHES}",
                 f"blocks {self.blocks(setting)}", f"gaps {'on' if setting.gaps else 'off'}"]
        lines += [f"prompt {len(ids)} {' '.join(map(str, ids))}" for ids in self.prompts]
        return "\n".join(lines).encode() + b"\n"

    def blocks(self, setting: Setting) -> int:
        """Enough for all requests, or as few as the decoder accepts: one request's longest path, and a block per level below
        the root (Decoder::validate)."""
        longest = max(map(len, self.prompts)) + MAX_TOKENS
        one = -(-longest // BLOCK_TOKENS) + MAX_DEPTH - 1
        return one if setting.few_blocks else one * len(self.prompts)


def shape_of(config: dict) -> Shape:
    return Shape(config["vocab_size"], config["hidden_size"], config["intermediate_size"], config["num_hidden_layers"],
                 config["num_attention_heads"], config["num_key_value_heads"], config["head_dim"],
                 config["max_position_embeddings"], config["rms_norm_eps"], config["rope_theta"], config["tie_word_embeddings"])


def answer(part: Part, demo: Demo, setting: Setting) -> Answers:
    # As binary: the log would otherwise have every token.
    printed = part.program([part.programs / "apar_generate"], input=demo.job(setting), limit=PROGRAM_SECONDS, binary=True)
    *requests, totals = [json.loads(line) for line in printed.splitlines()]
    part.result(str(setting), **totals)
    for request in requests:
        if request["finish"] not in ("stop", "length"):
            raise Failed(f"{setting}: {demo.texts[request['request']]!r} ended with {request['finish']}")
    if totals["forks"] == 0:
        raise Failed(f"{setting}: no answer forked")
    if setting.few_blocks and totals["preemptions"] == 0:
        raise Failed(f"{setting}: {demo.blocks(setting)} blocks were enough, no branch was pre-empted")
    return Answers(setting, requests, totals)


def refuse_limits(reference: Answers, demo: Demo) -> None:
    cut = [demo.texts[request["request"]] for request in reference.requests if request["finish"] == "length"]
    if cut or reference.totals["forks_refused"]:
        what = f"MAX_TOKENS ended the answer to {cut[0]!r}" if cut else "MAX_BRANCHES or MAX_DEPTH refused a fork"
        raise Failed(f"{reference.setting}: {what}: tokens then depend on the order in which branches run; raise the limits")


def describe(divergence: Divergence, demo: Demo) -> dict:
    return {**asdict(divergence), "prompt": demo.texts[divergence.request]}


def compare_to(part: Part, demo: Demo, reference: Answers, found: Answers, bound: Optional[float] = None) -> None:
    """Every token must be the same; with `bound`, unless its gap in `reference` is at most that."""
    case = f"{found.setting} against {reference.setting}"
    comparison = compare(reference.requests, found.requests)
    gaps = [divergence.gap for divergence in comparison.divergences if divergence.gap is not None]
    changes = comparison.gap_changes
    wrong = comparison.divergences if bound is None else comparison.beyond(bound)
    part.result(case, requests=comparison.requests, agree=comparison.agreeing(), same_tokens=comparison.tokens,
                divergences=len(comparison.divergences), bound=bound,
                first=describe(comparison.divergences[0], demo) if comparison.divergences else None,
                largest_gap=max(gaps, default=None), largest_gap_change=round(max(changes), 6) if changes else None,
                median_gap_change=round(statistics.median(changes), 6) if changes else None)
    if wrong:
        where = "" if bound is None else f" where no gap of at most {bound} explains it"
        raise Failed(f"{case}: diverging branches{where}: {len(wrong)}, the first: {json.dumps(describe(wrong[0], demo))}")


def least_gap(answers: Answers) -> float:
    """How far from a tie the nearest token was: what f32 may be off by without another token."""
    return min(gap for request in answers.requests for branch in request["branches"] for gap in branch["gaps"]
               if gap is not None)


def run(part: Part) -> None:
    demo = Demo()
    reference = answer(part, demo, Setting("cpu", "f32"))
    refuse_limits(reference, demo)
    part.result("reference", requests=len(demo.prompts), least_gap=least_gap(reference))
    own = reference
    device_f32 = Setting("cuda", "f32")
    if not part.cuda:
        part.skip(str(device_f32), "no CUDA device: what follows compares the CPU with itself")
    else:
        with part.attempt(str(device_f32)):
            own = answer(part, demo, device_f32)
            compare_to(part, demo, reference, own)
    # On one device no token may depend on who draws it, nor on how large the pool is.
    for setting in (Setting(part.device, "f32", gaps=False), Setting(part.device, "f32", gaps=False, few_blocks=True)):
        with part.attempt(str(setting)):
            compare_to(part, demo, own, answer(part, demo, setting))
    bf16 = Setting(part.device, "bf16")
    with part.attempt(str(bf16)):
        rounded = answer(part, demo, bf16)
        compare_to(part, demo, reference, rounded, BF16_GAP)
        compare_to(part, demo, rounded, answer(part, demo, Setting(part.device, "bf16", gaps=False, few_blocks=True)))


if __name__ == "__main__":
    main(run)
