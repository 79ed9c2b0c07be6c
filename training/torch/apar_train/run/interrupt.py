"""Ctrl-C and a polite kill: the step in hand is finished, the state is saved, and the run ends."""

import signal
from types import FrameType
from typing import Any, Dict, Optional

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupt:
    """`asked` once a signal has come; a second one ends the process at once."""

    def __init__(self) -> None:
        self.asked = False
        self._before: Dict[int, Any] = {}

    def __enter__(self) -> "Interrupt":
        self._before = {number: signal.signal(number, self._heard) for number in SIGNALS}
        return self

    def __exit__(self, *_: Any) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _heard(self, number: int, _frame: Optional[FrameType]) -> None:
        self.asked = True
        signal.signal(number, self._before[number])
