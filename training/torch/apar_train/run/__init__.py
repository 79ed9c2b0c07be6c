"""A run: steps, schedule, processes, state on disk, and what it logs."""
