"""Times opening a checkpoint of realistic size, from a file that is not in the page cache and from one that is, and
reading the same file. The file is created here and removed."""

import json
import os
import shutil
import struct
import time
from pathlib import Path
from typing import Optional

import numpy as np

from ..models.llama import TINY, Shape, from_safetensors, random_bf16
from ..part import Failed, Part, Skipped, main

LLAMA_1B = Shape(vocab=32000, hidden=2048, inner=5632, layers=22, heads=32, kv_heads=4, head_dim=64)
PIECE = 16 << 20  # bytes of a read or a write
MAX_READ_SECONDS = 4  # enough to measure the rate of a slow disk
OPEN_SECONDS = 60
SAMPLED = 64  # positions of the file


def run(part: Part) -> None:
    shape, path = (LLAMA_1B if part.cuda else TINY), part.build_dir / "loading.safetensors"
    program = part.programs / "apar_bench_steps"
    if not program.exists():
        raise Skipped(f"{program} is not there")
    free = shutil.disk_usage(part.build_dir).free
    try:
        began = time.perf_counter()
        size = write_checkpoint(shape, path, free)
        part.result("write", bytes=size, seconds=round(time.perf_counter() - began, 3), detail=True)
        drop_from_cache(path)
        read(part, path, "read, not in memory")
        drop_from_cache(path)
        open_model(part, shape, path, "open, not in memory")
        open_model(part, shape, path, "open, in memory")
        read(part, path, "read, in memory")
    finally:
        path.unlink(missing_ok=True)


def write_checkpoint(shape: Shape, path: Path, free: int) -> int:
    """Writes a safetensors file of random bf16 weights and returns its size in bytes."""
    tensors = {f"{name}.weight": size for name, size in shape.other_tensors().items()}
    for layer in range(shape.layers):
        tensors.update({f"model.layers.{layer}.{name}.weight": size for name, size in shape.layer_tensors().items()})
    header, end = {}, 0
    for name, size in tensors.items():
        begin, end = end, end + 2 * int(np.prod(size))
        header[name] = {"dtype": "BF16", "shape": list(size), "data_offsets": [begin, end]}
    if free < 1.2 * end:
        raise Skipped(f"{end / 1e9:.1f} GB are needed in {path.parent}, {free / 1e9:.1f} are free")
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    piece = random_bf16(PIECE // 2)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for at in range(0, end, PIECE):
            file.write(memoryview(piece).cast("B")[:end - at])
        file.flush()
        os.fsync(file.fileno())  # only written pages can be dropped from the page cache
    return path.stat().st_size


def drop_from_cache(path: Path) -> None:
    with open(path, "rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def share_in_memory(path: Path) -> Optional[float]:
    """The share of positions, spread over the file, that are in the page cache; None if the file system cannot tell."""
    size, found = path.stat().st_size, 0
    with open(path, "rb", buffering=0) as file:
        for number in range(SAMPLED):
            try:
                os.preadv(file.fileno(), [bytearray(1)], size * number // SAMPLED, os.RWF_NOWAIT)
                found += 1
            except BlockingIOError:
                pass
            except OSError:
                return None
    return found / SAMPLED


def read(part: Part, path: Path, case: str) -> None:
    in_memory = share_in_memory(path)
    buffer, total = bytearray(PIECE), 0
    began = time.perf_counter()
    with open(path, "rb", buffering=0) as file:
        while time.perf_counter() - began < MAX_READ_SECONDS:
            count = file.readinto(buffer)
            if not count:
                break
            total += count
    seconds = time.perf_counter() - began
    part.result(case, bytes=total, seconds=round(seconds, 3), gb_per_s=round(total / seconds / 1e9, 3),
                in_memory_before=in_memory)


def open_model(part: Part, shape: Shape, path: Path, case: str) -> None:
    """Adds the program's own time from the mapped file to a model that can run, and `process_seconds`, the time of the
    whole process."""
    in_memory = share_in_memory(path)
    job = from_safetensors(shape, path) + ["dtype bf16", f"device {part.device}", "seconds 0.05", "decode 1 16 4"]
    lines = {}
    began = time.perf_counter()
    part.results([part.programs / "apar_bench_steps"], lambda line: lines.update({line["case"]: line}), limit=OPEN_SECONDS,
                 input="\n".join(job).encode() + b"\n")
    process_seconds = time.perf_counter() - began
    if not {"open", "decode 1 16 4"} <= lines.keys():
        raise Failed(f"apar_bench_steps opened no model that runs: {list(lines.values())}")
    size, seconds = path.stat().st_size, lines["open"]["seconds"]
    part.result(case, bytes=size, seconds=seconds, gb_per_s=round(size / seconds / 1e9, 3) if seconds else None,
                process_seconds=round(process_seconds, 3), in_memory_before=in_memory, device=lines["open"].get("device"))


if __name__ == "__main__":
    main(run)
