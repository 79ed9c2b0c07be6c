"""The line of the log about the steps since the line before."""

from typing import Any, Callable, Dict, List, Tuple


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
