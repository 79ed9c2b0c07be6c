"""The line of the log about the steps since the line before."""

import math
from typing import Any, Callable, Dict, List, Tuple


def progress_line(step: int, steps: float, line: Dict[str, Any], seconds_left: float) -> str:
    """`step 40/2000  loss 1.234  812 tokens/s  1:02:03 left`, of a line of the log."""
    of = "" if math.isinf(steps) else f"/{int(steps)}"
    loss = line.get("loss", line["weighted_loss"])
    left = "" if math.isinf(seconds_left) else f"  {_clock(seconds_left)} left"
    return f"step {step}{of}  loss {loss:.4f}  {line['tokens_per_s']:,} tokens/s{left}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


class StepResult:
    def __init__(self, loss: float, parts: Dict[str, Tuple[float, float]], rate: float, norm: float) -> None:
        self.loss, self.parts, self.rate, self.norm = loss, parts, rate, norm


class Notes:
    """What has happened since the last line of the log."""

    def __init__(self, seconds: float, tokens: int) -> None:
        self.seconds, self.tokens = seconds, tokens
        self.results: List[StepResult] = []

    def add(self, result: StepResult) -> None:
        self.results.append(result)

    def line(self, seconds: float, tokens: int, means: Callable[[Dict[str, Tuple[float, float]]], Dict[str, float]]) -> Dict[str, Any]:
        sums: Dict[str, Tuple[float, float]] = {}
        for result in self.results:
            for name, (total, count) in result.parts.items():
                before = sums.get(name, (0.0, 0.0))
                sums[name] = (before[0] + total, before[1] + count)
        last = self.results[-1]
        return {
            # Weighted as in training; those by name are plain means.
            "weighted_loss": round(sum(result.loss for result in self.results) / len(self.results), 4),
            **means(sums),
            "lr": float(f"{last.rate:.4g}"),
            "grad_norm": round(max(result.norm for result in self.results), 4),
            "tokens": tokens,
            "tokens_per_s": round((tokens - self.tokens) / max(1e-9, seconds - self.seconds)),
            "seconds": round(seconds, 1),
        }
