"""Teaches language models to fork. Start with docs/training.md and training/README.md."""

import ctypes
import os

# PyTorch's OpenMP threads spin while they wait for each other; on a machine that does anything else besides, that was
# measured to be 9 times slower (490 against 4,400 tokens/s). Read when libgomp loads, so set before torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("GOMP_SPINCOUNT", "0")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def keep_freed_memory() -> None:
    """glibc gives every large block back to the system and gets it back in new pages, which costs system time."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    m_trim_threshold, m_mmap_threshold, most = -1, -3, 2**31 - 1
    mallopt(m_mmap_threshold, most)
    mallopt(m_trim_threshold, most)


keep_freed_memory()
