"""The goals of the backend, as shares of the device's own rates, compared with the measurements of a run. The goals
come from the project's requirements and are never chosen so that a run passes."""

from typing import Callable, Dict, List, Optional

from .cases import OWN, SHARED

CONTEXT = f"{SHARED} {OWN}"
STEP_GOALS = {"decode 1": 0.85, "decode 8": 0.85, "decode 32": 0.85, "decode 128": 0.70, "decode 350": 0.60,
              "prefill 512": 0.65, "prefill 2048": 0.65}
ATTENTION_ROWS = [1, 8, 32, 128, 350]
ATTENTION_GOAL = 0.75  # of the copy's bandwidth
PEER_GOALS = {1: 1.3, 32: 3.0}  # times the tokens per second of PyTorch with CUDA graphs
SMALL_WEIGHTS_GOAL = 1.6  # times bf16, for the better of fp8 and int4
HOST_GOAL = 0.03  # of a step


def goals(lines: List[dict]) -> Dict[str, dict]:
    """Value, goal and met of each goal by name; value and met are None if nothing was measured. A later line replaces
    an earlier one."""
    def value(part: str, case: str, field: str, **where) -> Optional[float]:
        for line in reversed(lines):
            if line.get("part") == part and line.get("case") == case and field in line:
                if all(line.get(key) == wanted for key, wanted in where.items()):
                    return line[field]
        return None

    found: Dict[str, dict] = {}
    for part, gemm in [("steps", "mma"), ("steps_wgmma", "wgmma")]:
        for name, goal in STEP_GOALS.items():
            case = f"{name} {CONTEXT}" if name.startswith("decode") else name
            found[f"{name}, {gemm}, of floor"] = at_least(goal, value(part, case, "share_of_floor"))
    one = f"decode 1 {CONTEXT}"
    shares = [value("kernels", f"attention shared {rows}", "share_of_copy") for rows in ATTENTION_ROWS]
    # One goal for all numbers of rows: the worst of them has to reach it.
    found["attention, of the copy"] = at_least(ATTENTION_GOAL, min(shares) if None not in shares else None)
    for rows, goal in PEER_GOALS.items():
        case = f"decode {rows} {CONTEXT}"
        found[f"over PyTorch, {rows} rows"] = at_least(
            goal, ratio(fastest(lines, case, "steps", "steps_wgmma"), fastest(lines, case, "peer")))
    wide = value("steps", one, "tokens_per_s")
    smaller = [ratio(value("formats", one, "tokens_per_s", dtype=dtype), wide) for dtype in ("fp8", "int4")]
    found["fp8 or int4 over bf16, 1 row"] = at_least(
        SMALL_WEIGHTS_GOAL, max((each for each in smaller if each is not None), default=None))
    found["host's share, 1 row"] = judged(HOST_GOAL, value("steps", one, "host_share"), lambda got, most: got <= most)
    return found


def fastest(lines: List[dict], case: str, *parts: str) -> Optional[float]:
    rates = [line["tokens_per_s"] for line in lines if line.get("part") in parts and line.get("case") == case and "tokens_per_s" in line]
    return max(rates, default=None)


def ratio(over: Optional[float], under: Optional[float]) -> Optional[float]:
    return round(over / under, 3) if over is not None and under else None


def at_least(goal: float, value: Optional[float]) -> dict:
    return judged(goal, value, lambda got, least: got >= least)


def judged(goal: float, value: Optional[float], good: Callable[[float, float], bool]) -> dict:
    return {"value": value, "goal": goal, "met": None if value is None else good(value, goal)}
