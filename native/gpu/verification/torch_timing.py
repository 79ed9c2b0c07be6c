"""Times PyTorch code. Can be imported only if PyTorch is installed."""

import time
from typing import Callable, List

import torch

WARM_UPS = 3
CLOCK_SECONDS = 0.3  # of work before anything is timed: an idle device runs at low clocks


def cuda_graph(step: Callable[[], None]) -> Callable[[], None]:
    """Captures the device work of `step` as a CUDA graph; calling the result replays it on the same tensors. `step`
    runs WARM_UPS times before, because libraries select kernels and allocate memory in their first calls, on the stream
    of those calls."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARM_UPS):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def median_seconds(run: Callable[[], object], device: str, samples: int) -> float:
    """The median of `samples` runs, after warm-up runs."""
    warm_up(run, device)
    seconds = device_seconds(run, samples) if device == "cuda" else host_seconds(run, samples)
    return sorted(seconds)[samples // 2]


def warm_up(run: Callable[[], object], device: str) -> None:
    began, runs = time.perf_counter(), 0
    while runs < (WARM_UPS if device == "cuda" else 1) or (device == "cuda" and time.perf_counter() - began < CLOCK_SECONDS):
        run()
        runs += 1
        if device == "cuda":
            torch.cuda.synchronize()


def device_seconds(run: Callable[[], object], samples: int) -> List[float]:
    """Measured by events around each run. The host queues all runs and waits once, so that no run waits for the
    host."""
    events = [(torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)) for _ in range(samples)]
    for begin, end in events:
        begin.record()
        run()
        end.record()
    torch.cuda.synchronize()
    return [begin.elapsed_time(end) / 1e3 for begin, end in events]


def host_seconds(run: Callable[[], object], samples: int) -> List[float]:
    seconds = []
    for _ in range(samples):
        began = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - began)
    return seconds
