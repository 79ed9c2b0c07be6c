"""The cases of whole steps that are timed, as native/bench/cuda/steps.cpp reads them: `decode ROWS SHARED OWN` and
`prefill TOKENS`."""

SHARED, OWN = 450, 50  # tokens of a prompt, and of each branch below it
PREFILLS = [512, 2048]
ROWS = [1, 8, 32, 128, 350]
STANDARD_CASES = [f"decode {rows} {SHARED} {OWN}" for rows in ROWS] + [f"prefill {tokens}" for tokens in PREFILLS]
