"""The parts of each phase, their order and their time limits."""

from dataclasses import dataclass, replace
from typing import Dict, List


@dataclass(frozen=True)
class Step:
    """A part in a phase. `seconds` is its time limit. Earlier parts leave `reserved` seconds for it, so that the
    diagnosis of a failure cannot use up the time of the most important parts."""

    part: str
    seconds: float
    reserved: float = 0
    programs: bool = True  # whether it needs the programs of part build


@dataclass(frozen=True)
class Phase:
    seconds: float
    steps: List[Step]


# The machine is available for 900 s, including its start of about 75 s; a command may take 600 s. 75 + 290 + 330 leaves
# 205 s to fix failures.
PHASES: Dict[str, Phase] = {
    "1": Phase(290, [
        Step("smoke", 15, programs=False),
        Step("build", 120, 40, programs=False),
        Step("parity", 130, 20),
        Step("wgmma", 60, 10),
        Step("cublaslt", 40),
        Step("floors", 25, 10, programs=False),
        Step("logits", 45, 15),
        Step("steps", 75, 60),
        Step("steps_wgmma", 60, 15),
        Step("attention", 60),
    ]),
    "2": Phase(330, [
        Step("build", 120, 20, programs=False),
        Step("red", 75),
        Step("end_to_end", 40, 15),
        Step("kernels", 60, 20),
        Step("formats", 60, 20),
        Step("launches", 45, 15),
        Step("peer", 90, 35, programs=False),
        Step("cublaslt_speed", 20),
        Step("ranks", 40),
        Step("sampling", 25),
        Step("training", 40, programs=False),
        Step("loading", 40),
        Step("sanitize", 60),
    ]),
}


def slower(step: Step, factor: float) -> Step:
    """The step with a time limit for a machine that is slower by `factor`: the emulator, or one that is busy."""
    return replace(step, seconds=factor * step.seconds)


def find_steps(names: List[str]) -> List[Step]:
    """The steps of single parts, with the settings of their phase. Raises KeyError with an unknown name."""
    known = {step.part: step for phase in PHASES.values() for step in phase.steps}
    return [known[name] for name in names]
