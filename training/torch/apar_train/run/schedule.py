"""When to stop and how fast to learn."""

import math


def learning_rate(peak: float, step: int, warmup_steps: int, progress: float, floor: float = 0.02) -> float:
    """Linear warm-up, then cosine down to `floor` * peak; progress runs from 0 to 1 over the whole run."""
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    return peak * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))


def progress(step: int, total_steps: int, seconds: float, minutes: float) -> float:
    """Share of the run that is over, by steps or by the clock, whichever is further."""
    return max(step / max(1, total_steps), seconds / (60 * minutes) if minutes > 0 else 0.0)
