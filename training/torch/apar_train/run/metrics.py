"""RUN/log.jsonl: one object per line; and TensorBoard's event files where they are asked for."""

import json
from pathlib import Path
from typing import Any, Dict, Optional, Tuple

from ..data.shards import KINDS
from ..errors import InputError


class Log:
    def __init__(self, run: Path, step: int, tensorboard: Optional[Path]) -> None:
        """What was logged after `step` is forgotten: a resumed run does it again."""
        self.path = run / "log.jsonl"
        self.events = _events(tensorboard) if tensorboard else None
        lines = self.path.read_text().splitlines() if self.path.is_file() and step > 0 else []
        aside = self.path.with_suffix(".part")
        aside.write_text("".join(line + "\n" for line in lines if _step(line, step + 1) <= step))
        aside.replace(self.path)

    def write(self, step: int, **values: Any) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")
        if self.events:
            for name, value in values.items():
                if isinstance(value, (int, float)):
                    self.events.add_scalar(name, value, step)

    def close(self) -> None:
        if self.events:
            self.events.close()


def means(sums: Dict[str, Tuple[float, float]]) -> Dict[str, float]:
    """{"loss", "fork_loss", ...} of (sum, count) per name, in nats; without names of which there is no token."""
    kinds = [sums[name] for name in KINDS if name in sums]
    whole = {"": (sum(total for total, _ in kinds), sum(count for _, count in kinds)), **sums}
    return {f"{name}_loss".lstrip("_"): round(total / count, 4) for name, (total, count) in whole.items() if count > 0}


def _step(line: str, unreadable: int) -> int:
    """A line that was cut by a kill counts as not yet written."""
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return unreadable


def _events(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise InputError("invalid_request", "--tensorboard: the package tensorboard is not installed") from None
    return SummaryWriter(str(folder))
