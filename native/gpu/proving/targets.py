"""What the backend is to reach on an H200, beside what a run measured."""

from typing import Callable, Dict, List, Optional

CONTEXT = "450 50"  # shared and own tokens
SHARES = {"decode 1": 0.80, "decode 32": 0.80, "decode 128": 0.65, "decode 350": 0.55, "prefill": 0.60}  # of the floor
TOKENS_PER_S = {1: 255, 32: 7700, 128: 21000, 350: 24000}
ATTENTION_ROWS = [1, 32, 128, 350]


def targets(lines: List[dict]) -> Dict[str, dict]:
    """Each target by name: value, target, met; null where nothing was measured."""
    def value(part: str, case: str, field: str, dtype: Optional[str] = None):
        for line in lines:
            if line.get("part") == part and line.get("case") == case and line.get("dtype") == dtype:
                return line.get(field)
        return None

    def bench(case: str, field: str, dtype: str = "bf16"):
        return value("bench", case, field, dtype)

    def peer_ratio(rows: int):
        case = f"decode {rows} {CONTEXT}"
        ours = bench(case, "tokens_per_s")
        return ours and ratio(ours, value("peer", case, "tokens_per_s") if value("peer", case, "compiled") else None)

    one = f"decode 1 {CONTEXT}"
    found: Dict[str, dict] = {}
    for name, target in SHARES.items():
        case = f"{name} {CONTEXT}" if name != "prefill" else "prefill 512"
        found[f"{name}, of floor"] = at_least(target, bench(case, "share_of_floor"))
    for rows, target in TOKENS_PER_S.items():
        found[f"decode {rows}, tok/s"] = at_least(target, bench(f"decode {rows} {CONTEXT}", "tokens_per_s"))
    shares = [value("kernels", f"attention shared 450+50 {rows}", "share_of_copy") for rows in ATTENTION_ROWS]
    # One target for every number of rows: the worst of them has to reach it.
    found["attention, of its bytes"] = at_least(0.75, min(shares) if None not in shares else None)
    found["peer, 1 row"] = at_least(1.3, peer_ratio(1))
    found["peer, 32 branches"] = at_least(3, peer_ratio(32))
    smaller = [ratio(bench(one, "tokens_per_s", dtype), bench(one, "tokens_per_s")) for dtype in ("fp8", "int4")]
    found["fp8 or int4 over bf16, 1 row"] = at_least(1.6, max((r for r in smaller if r is not None), default=None))
    found["host's share, 1 row"] = judged(0.03, bench(one, "host_share"), lambda got, most: got <= most)
    return found


def ratio(over: Optional[float], under: Optional[float]) -> Optional[float]:
    return round(over / under, 3) if over is not None and under else None


def at_least(target: float, value: Optional[float]) -> dict:
    return judged(target, value, lambda got, least: got >= least)


def judged(target: float, value: Optional[float], good: Callable[[float, float], bool]) -> dict:
    return {"value": value, "target": target, "met": None if value is None else good(value, target)}
