"""What is timed of whole steps, in native/bench/cuda/steps.cpp's words: `decode ROWS SHARED OWN`, `prefill TOKENS`."""

SHARED, OWN = 450, 50  # tokens of a prompt, and of each branch below it
PREFILLS = [512, 2048]
ROWS = [1, 8, 32, 128, 350]
STANDARD_CASES = [f"decode {rows} {SHARED} {OWN}" for rows in ROWS] + [f"prefill {tokens}" for tokens in PREFILLS]
