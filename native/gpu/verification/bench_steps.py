"""Times whole steps of a Llama-7B shape (native/bench/cuda/steps.cpp) and compares them with their floors. On the CPU
the shape is tiny, and there are no floors."""

import os
from pathlib import Path
from typing import Dict, List, Optional, Sequence

from .floors import Format, ceilings, floor_seconds
from .models.llama import LLAMA_7B, TINY, Shape, write_for_timing
from .part import Failed, OutOfTime, Part

CASE_SECONDS = 0.7
# Longer than a model takes to open, and short enough that a case which hangs leaves time for the next ones.
OUTPUT_TIMEOUT_SECONDS = 40
MAX_ON_CPU = {"decode": 32, "sample": 32, "prefill": 512}  # rows; larger cases take long on a CPU


def timed_shape(part: Part) -> Shape:
    return LLAMA_7B if part.cuda else TINY


def time_steps(part: Part, format: Format, cases: List[str], environment: Optional[Dict[str, str]] = None,
               job: Sequence[str] = (), **labels) -> None:
    """Adds one line per case, with `labels`. `job` has further lines of the model job. If a case ends the program, that
    case fails, and another process runs the cases after it."""
    cases = [case for case in cases if part.cuda or int(case.split()[1]) <= MAX_ON_CPU[case.split()[0]]]
    while cases:
        done: List[str] = []
        try:
            time_in_one_process(part, format, [*job, *cases], done, environment, labels)
            missing = [case for case in cases if case not in done]
            if missing:
                raise Failed(f"nothing was printed for {', '.join(missing)}")
            return
        except OutOfTime:
            raise
        except Failed as failure:
            if not done:
                raise  # the model did not open, or the first case failed
            rest = [case for case in cases if case not in done]
            if not rest:
                raise
            part.fail(f"{format.name}: {rest[0]}", str(failure), **labels)
            cases = rest[1:]


def time_in_one_process(part: Part, format: Format, lines: List[str], done: List[str], environment: Optional[Dict[str, str]],
                        labels: dict) -> None:
    shape = timed_shape(part)
    known = ceilings(part)
    job = write_for_timing(shape, Path(part.build_dir) / ("llama-7b.bin" if part.cuda else "tiny.bin"))
    job += [f"dtype {format.dtype}", f"kv_cache_dtype {format.kv_cache_dtype}", f"device {part.device}",
            f"seconds {CASE_SECONDS if part.cuda else 0.1}", *lines]

    def add(line: dict) -> None:
        case = line.pop("case")
        if case != "open":
            done.append(case)
        if known and case.split()[0] in ("decode", "prefill") and "step_us" in line:
            line.update(shares(shape, case, format, known, line))
        part.result(case, dtype=format.name, **line, **labels)

    part.results([part.programs / "apar_bench_steps"], add, input="\n".join(job).encode() + b"\n", limit=120,
                 output_timeout=OUTPUT_TIMEOUT_SECONDS,
                 env={**os.environ, **(environment or {})})


def shares(shape: Shape, case: str, format: Format, known: dict, line: dict) -> dict:
    floor = floor_seconds(shape, case, format, known) * 1e6
    measured = line.get("device_us", line["step_us"])
    return {"floor_us": round(floor, 1), "share_of_floor": round(floor / measured, 3),
            "floor_is_assumed": known.get("assumed")}
