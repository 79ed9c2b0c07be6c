"""How fast this machine multiplies matrices: python -m apar_train.product_rate HIDDEN INTERMEDIATE [bfloat16 | float32]

The product is that of a decoder layer, [1024, HIDDEN] x [HIDDEN, INTERMEDIATE] on a CPU, 8 times as tall on a GPU. Prints
{"device": "cpu" | "cuda", "name", "threads", "dtype", "flops": operations a second}, the best of several rounds.
"""

import json
import sys
import time

import torch

from .arithmetic import dtype_name, dtype_of

SECONDS = 1.0


def main() -> None:
    hidden, intermediate = map(int, sys.argv[1:3])
    device = "cuda" if torch.cuda.is_available() else "cpu"
    named = dtype_name(sys.argv[3] if len(sys.argv) > 3 else None, torch.device(device))
    dtype = dtype_of(named)
    rows = 1024 if device == "cpu" else 8192
    left = torch.randn(rows, hidden, dtype=dtype, device=device)
    right = torch.randn(hidden, intermediate, dtype=dtype, device=device)
    left @ right
    best, begin = float("inf"), time.perf_counter()
    while time.perf_counter() - begin < SECONDS:
        start = time.perf_counter()
        left @ right
        if device == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    name = torch.cuda.get_device_name() if device == "cuda" else "CPU"
    threads = torch.get_num_threads()
    flops = 2 * rows * hidden * intermediate / best
    print(json.dumps({"device": device, "name": name, "threads": threads, "dtype": named, "flops": flops}))


if __name__ == "__main__":
    main()
