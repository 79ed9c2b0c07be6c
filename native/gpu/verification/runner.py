"""Runs the parts of a phase one after the other, each in its own process, within the phase's time limit."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import List, Optional

from .part import MIN_SECONDS, NATIVE, ending, read_lines
from .phases import Step
from .processes import adopt_orphans, kill_children, run_limited
from .results import Results

FOLDER = NATIVE / "gpu"  # the folder of the parts' package
GRACE_SECONDS = 3  # for a part whose time is up to print its results


class Runner:
    """`earlier` is a file in the build folder with all results, one per line, for later parts and phases."""

    def __init__(self, results: Results, device: str, build_dir: Path, deadline: float, keep_alive: Optional[int] = None,
                 programs: Optional[Path] = None) -> None:
        adopt_orphans()
        self.results = results
        self.device = device
        self.build_dir = build_dir
        self.deadline = deadline  # by time.monotonic()
        self.programs = programs  # a folder of built programs, or None
        self.keep_alive = keep_alive  # a process that must survive the parts
        self.earlier = build_dir / "earlier.jsonl"
        self.ended = {}  # part -> result
        # An earlier run may have built its programs from other sources, so part build decides in each run which to use.
        self.has_programs = programs is not None
        if self.earlier.exists():  # its last line may be truncated
            with open(self.earlier, "a", encoding="utf-8") as file:
                file.write("\n")

    def seconds_left(self) -> float:
        return self.deadline - time.monotonic()

    def run(self, steps: List[Step]) -> None:
        for index, step in enumerate(steps):
            self.run_step(step, reserved=sum(later.reserved for later in steps[index + 1:]))

    def run_step(self, step: Step, reserved: float) -> None:
        began = time.monotonic()
        seconds = min(step.seconds, self.seconds_left() - reserved)
        if step.programs and not self.has_programs:
            end = {"result": "skipped", "why": "there are no programs: part build failed or did not run"}
        elif seconds < MIN_SECONDS:
            end = {"result": "skipped", "why": "no time left"}
        else:
            end = self.run_process(step, seconds)
        self.ended[step.part] = end["result"]
        self.results.cut_log()
        self.add({"part": step.part, "case": "end", **end, "seconds": round(time.monotonic() - began, 1)})

    def run_process(self, step: Step, seconds: float) -> dict:
        """The part's result: its own last line, or the reason why it printed none."""
        end: List[dict] = []

        def on_line(text: str) -> None:
            try:
                line = json.loads(text) if text.startswith("{") else None
            except ValueError:
                line = None
            if not isinstance(line, dict):
                self.results.write_log(text)
            elif line.get("case") == "end":
                end.append(line)
            else:
                self.add(line)

        self.results.write_log(f"== {step.part} ==")
        command = [sys.executable, "-m", f"verification.parts.{step.part}", step.part, "--device", self.device,
                   "--build-dir", str(self.build_dir), "--seconds", f"{max(seconds - GRACE_SECONDS, MIN_SECONDS + 0.1):.1f}",
                   "--earlier", str(self.earlier), *(["--programs", str(self.programs)] if self.programs else [])]
        why = None
        try:
            status = run_limited(command, seconds, self.results.log, on_line=on_line, cwd=FOLDER)
            if status != 0:
                why = f"the part's process {ending(status)}"
        except subprocess.TimeoutExpired:
            why = f"the part did not end within {seconds:.0f} s"
        finally:
            kill_children(spare=self.keep_alive)
        if why is not None:
            return {"result": "failed", "why": why}
        if not end:
            return {"result": "failed", "why": "the part ended without a result"}
        return {"result": end[-1]["result"], **({"why": end[-1]["why"]} if end[-1].get("why") else {})}

    def known(self) -> List[dict]:
        """All results so far, including those of earlier phases."""
        return read_lines(self.earlier)

    def add(self, line: dict) -> None:
        self.has_programs |= line["part"] == "build" and line["case"] == "programs"
        self.results.add(line)
        with self.results.unless_full(), open(self.earlier, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
