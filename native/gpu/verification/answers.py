"""Answers of two runs of apar_generate (native/tools/generate.cpp) to the same prompts, branch by branch.

Once a path has another token, what follows it has another context: a path is compared up to its first divergence, and branches
that forked behind one are left out. A branch is known by where it and those above it begin, not by its number: numbers count the
forks of the whole request in the order in which they happened."""

from dataclasses import dataclass, field
from typing import Dict, List, Optional, Tuple, Union

Path = Tuple[int, ...]  # where a branch and those above it begin; () is the root
NOWHERE = -1  # comparable up to no position at all
EVERYWHERE = float("inf")


@dataclass
class Divergence:
    """The first of a path. `expected` and `found` are token ids; where a branch ended instead, why: "stop", "length"."""

    request: int
    branch: int  # its number, as expected where it is there
    index: int  # among the branch's own tokens
    position: int  # in the path, the prompt included
    expected: Union[int, str]
    found: Union[int, str]
    gap: Optional[float] = None  # between the two likeliest tokens: how much must have changed for another one to win
    cut_short: bool = False  # a limit on tokens ended one of the two, which no gap explains


@dataclass
class Comparison:
    requests: int = 0
    tokens: int = 0  # that agree
    divergences: List[Divergence] = field(default_factory=list)  # by request, then by position
    gap_changes: List[float] = field(default_factory=list)  # of tokens that agree, where both runs say their gaps

    def agreeing(self) -> int:
        """Requests of which all branches agree."""
        return self.requests - len({divergence.request for divergence in self.divergences})

    def beyond(self, bound: float) -> List[Divergence]:
        """Those that rounding does not explain: the gap is larger than `bound`, or unknown."""
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
    comparable: Dict[Path, float] = {}  # the position behind the last one
    divergences = []
    for path in sorted({**ours, **theirs}, key=len):
        if path and path[-1] > comparable[path[:-1]]:
            comparable[path] = NOWHERE
        elif path in ours and path in theirs:
            divergence = compare_branch(comparison, request, ours[path], theirs[path])
            comparable[path] = divergence.position if divergence else EVERYWHERE
            divergences += [divergence] if divergence else []
        else:
            # Both parents have the token that forks: one decoder did not do what it says.
            comparable[path] = NOWHERE
            branch = ours.get(path) or theirs[path]
            words = ("a branch", "none") if path in ours else ("none", "a branch")
            divergences.append(Divergence(request, branch["branch"], 0, branch["start"], *words))
    # A request's branches share its limit on tokens: where one of them went another way, the others may be cut elsewhere.
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
    if gap is None and not cut_short:  # an end has none; the other run's is as good: the logits moved by at least each of the two
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
