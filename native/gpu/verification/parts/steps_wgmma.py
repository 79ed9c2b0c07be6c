"""Times the same steps as part steps with the matrix products of wgmma."""

from ..bench_steps import time_steps
from ..cases import STANDARD_CASES
from ..floors import BF16
from ..part import Part, Skipped, main


def run(part: Part) -> None:
    if not part.cuda:
        raise Skipped("wgmma is timed on a GPU")
    wgmma = part.earlier("wgmma", "end")
    if wgmma is None or wgmma["result"] != "ok":
        raise Skipped(f"its tests have not passed: {(wgmma or {}).get('why', 'part wgmma did not run')}")
    time_steps(part, BF16, STANDARD_CASES, {"APAR_CUDA_GEMM": "wgmma"}, gemm="wgmma")


if __name__ == "__main__":
    main(run)
