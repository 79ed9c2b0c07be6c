"""How fast this machine multiplies matrices in bf16: python -m apar_train.product_rate HIDDEN INTERMEDIATE

The product is that of a decoder layer, [1024, HIDDEN] x [HIDDEN, INTERMEDIATE] on a CPU, 8 times as tall on a GPU. Prints
{"device": "cpu" | "cuda", "name", "threads", "flops": operations a second}, the best of several rounds.
"""

import json
import sys
import time

import torch

SECONDS = 1.0


def main() -> None:
    hidden, intermediate = map(int, sys.argv[1:])
    device = "cuda" if torch.cuda.is_available() else "cpu"
    rows = 1024 if device == "cpu" else 8192
    left = torch.randn(rows, hidden, dtype=torch.bfloat16, device=device)
    right = torch.randn(hidden, intermediate, dtype=torch.bfloat16, device=device)
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
    print(json.dumps({"device": device, "name": name, "threads": threads, "flops": 2 * rows * hidden * intermediate / best}))


if __name__ == "__main__":
    main()
