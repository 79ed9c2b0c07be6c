"""Compares the answers of two runs of apar_generate (native/tools/generate.cpp) to the same prompts, branch by branch.

After the first different token of a path, both runs have different contexts. So a path is compared up to its first
divergence, and branches that forked after it are not compared. A branch is identified by the positions at which it and
its ancestors begin. Branch numbers do not identify it, because they count the forks of the request in order of time."""

from dataclasses import dataclass, field
from typing import Dict, List, Optional, Tuple, Union

Path = Tuple[int, ...]  # the positions at which a branch and its ancestors begin; () is the root
# Values of "comparable up to this position":
NOWHERE = -1
EVERYWHERE = float("inf")


@dataclass
class Divergence:
    """The first divergence of a path. `expected` and `found` are token ids, or the finish reason ("stop", "length") of
    a branch that ended there."""

    request: int
    branch: int  # its number in the expected run, or in the other run if it exists only there
    index: int  # among the branch's own tokens
    position: int  # in the path, including the prompt
    expected: Union[int, str]
    found: Union[int, str]
    gap: Optional[float] = None  # between the two largest logits: a smaller change cannot change the token
    cut_short: bool = False  # a limit on tokens ended one of the two branches, which no gap explains


@dataclass
class Comparison:
    requests: int = 0
    tokens: int = 0  # that are equal
    divergences: List[Divergence] = field(default_factory=list)  # by request, then by position
    gap_changes: List[float] = field(default_factory=list)  # of equal tokens for which both runs have a gap

    def agreeing(self) -> int:
        """The number of requests whose branches are all equal."""
        return self.requests - len({divergence.request for divergence in self.divergences})

    def beyond(self, bound: float) -> List[Divergence]:
        """The divergences that rounding does not explain: their gap is larger than `bound`, or unknown."""
        return [divergence for divergence in self.divergences if divergence.gap is None or not divergence.gap <= bound]


def compare(expected: List[dict], found: List[dict]) -> Comparison:
    """Raises ValueError when the runs did not answer the same requests."""
    if [request["request"] for request in expected] != [request["request"] for request in found]:
        raise ValueError(f"{len(found)} requests were answered, {len(expected)} were expected")
    comparison = Comparison(len(expected))
    for one, other in zip(expected, found):
        compare_request(comparison, one, other)
    comparison.divergences.sort(key=lambda divergence: (divergence.request, divergence.position))
    return comparison


def compare_request(comparison: Comparison, expected: dict, found: dict) -> None:
    request = expected["request"]
    ours, theirs = by_path(expected), by_path(found)
    comparable: Dict[Path, float] = {}  # each path is comparable up to this position
    divergences = []
    for path in sorted({**ours, **theirs}, key=len):
        if path and path[-1] > comparable[path[:-1]]:
            comparable[path] = NOWHERE
        elif path in ours and path in theirs:
            divergence = compare_branch(comparison, request, ours[path], theirs[path])
            comparable[path] = divergence.position if divergence else EVERYWHERE
            divergences += [divergence] if divergence else []
        else:
            # Both parents have the fork token, but one decoder did not create the branch.
            comparable[path] = NOWHERE
            branch = ours.get(path) or theirs[path]
            words = ("a branch", "none") if path in ours else ("none", "a branch")
            divergences.append(Divergence(request, branch["branch"], 0, branch["start"], *words))
    # The branches of a request share its limit on tokens: after one of them diverged, the others may be cut elsewhere.
    elsewhere = any(not divergence.cut_short for divergence in divergences)
    comparison.divergences += [divergence for divergence in divergences if not (divergence.cut_short and elsewhere)]


def compare_branch(comparison: Comparison, request: int, expected: dict, found: dict) -> Optional[Divergence]:
    ours, theirs = expected["tokens"], found["tokens"]
    agree = next((i for i, (one, other) in enumerate(zip(ours, theirs)) if one != other), min(len(ours), len(theirs)))
    comparison.tokens += agree
    for index in range(agree):
        one, other = gap_at(expected, index), gap_at(found, index)
        if one is not None and other is not None:
            comparison.gap_changes.append(abs(one - other))
    token, other_token = token_at(expected, agree), token_at(found, agree)
    if token == other_token:
        return None
    cut_short = "length" in (token, other_token)
    gap = None if cut_short else gap_at(expected, agree)
    if gap is None and not cut_short:  # a branch that ended has no gap: the other run's gap is as good a measure
        gap = gap_at(found, agree)
    return Divergence(request, expected["branch"], agree, expected["start"] + agree, token, other_token, gap, cut_short)


def by_path(request: dict) -> Dict[Path, dict]:
    paths: Dict[Optional[int], Path] = {}
    for branch in request["branches"]:
        parent = branch["parent"]
        paths[branch["branch"]] = () if parent is None else (*paths[parent], branch["start"])
    return {paths[branch["branch"]]: branch for branch in request["branches"]}


def token_at(branch: dict, index: int) -> Union[int, str]:
    return branch["tokens"][index] if index < len(branch["tokens"]) else branch["finish"]


def gap_at(branch: dict, index: int) -> Optional[float]:
    gaps = branch.get("gaps", [])
    return gaps[index] if index < len(gaps) else None
