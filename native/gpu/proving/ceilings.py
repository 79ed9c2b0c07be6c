"""What the device reaches at most, measured: bytes/s of a copy (read and written), FLOP/s of a bf16 product. A program of its
own, so that a device that hangs does not hold the script, nor memory while others measure."""

import json

import torch


def median_seconds(run, repeats: int = 20) -> float:
    for _ in range(3):
        run()
    times = []
    for _ in range(repeats):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        run()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end) / 1e3)
    return sorted(times)[repeats // 2]


def main() -> None:
    source = torch.empty(2**31, dtype=torch.int8, device="cuda").random_()
    target = torch.empty_like(source)
    bandwidth = 2 * source.numel() / median_seconds(lambda: target.copy_(source))
    a = torch.randn(8192, 8192, dtype=torch.bfloat16, device="cuda")
    b = torch.randn(8192, 8192, dtype=torch.bfloat16, device="cuda")
    flops = 2 * 8192**3 / median_seconds(lambda: a @ b)
    print(json.dumps({"part": "bench", "case": "ceilings", "copy_bytes_per_s": bandwidth, "bf16_flop_per_s": flops}))


if __name__ == "__main__":
    main()
