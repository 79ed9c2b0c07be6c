"""Trains, judges and writes small Llama-architecture models that fork. Start with training/README.md."""

import os

# PyTorch's OpenMP threads spin while they wait for each other; on a machine that does anything else besides, that was
# measured to be 9 times slower (490 against 4,400 tokens/s). Read when libgomp loads, so set before torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("GOMP_SPINCOUNT", "0")
