"""The state of a run on disk: RUN/state-STEP/, complete or not there at all.

It is written beside and renamed, so a run may be killed at any moment. The one before is kept until the next: should a disk
have lost a part of the newest, the run goes on from that. What is drawn and dropped is a function of seed and step, so
weights, moments and the step are all that a run needs to go on.
"""

import errno
import json
import os
import shutil
import sys
import warnings
from pathlib import Path
from typing import Any, Dict, List, Optional

import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict, set_state_dict

from ..errors import InputError
from .processes import Processes

PREFIX, POSITION, UNFINISHED = "state-", "position.json", ".part"
ONLY_TRAINED = StateDictOptions(ignore_frozen_params=True, strict=False)


def newest(run: Path) -> Optional[Path]:
    """The folder to go on from: the last one that is whole. Leftovers of a killed process are not looked at.

    @raises InputError when there are states, and none is whole
    """
    states = _states(run)
    for path in states:
        if _is_whole(path):
            return path
        print(f"{path}: is not whole, and the one before is used", file=sys.stderr)
    if states:
        raise InputError("invalid_request", f"{states[0]}: is not whole, and there is no other: begin another run with --run")
    return None


def keep_newest(run: Path) -> None:
    """Of a run that has ended, one state is enough."""
    found = newest(run)
    for other in _states(run):
        if other != found:
            shutil.rmtree(other, ignore_errors=True)


def _states(run: Path) -> List[Path]:
    """The last one first."""
    found = [path for path in run.glob(f"{PREFIX}*") if path.name[len(PREFIX) :].isdigit()]
    return sorted(found, key=lambda path: int(path.name[len(PREFIX) :]), reverse=True)


def _is_whole(state: Path) -> bool:
    """All files with the sizes that were written: position.json is written last and has them."""
    try:
        sizes = read_position(state).get("files", {})
        return all((state / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, AttributeError):
        return False


def read_position(state: Path) -> Dict[str, Any]:
    return json.loads((state / POSITION).read_text())


def save(run: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer, position: Dict[str, Any], processes: Processes) -> None:
    """`position` has "step", and whatever else JSON can keep."""
    target = run / f"{PREFIX}{position['step']:08d}"
    part = target.with_name(target.name + UNFINISHED)
    if processes.first:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
    processes.wait()
    try:
        with quiet():
            dcp.save(_tensors(model, optimizer), checkpoint_id=part, no_dist=processes.world == 1)
    except (OSError, dcp.api.CheckpointException) as error:
        shutil.rmtree(part, ignore_errors=True)
        if not _is_full(error):
            raise
        raise InputError("disk_full", f"{target}: no space is left for the state; the one before is whole: make room, and go on with "
                         "--resume") from None  # fmt: skip
    processes.wait()
    if not processes.first:
        return
    files = {path.name: path.stat().st_size for path in part.iterdir()}
    (part / POSITION).write_text(json.dumps({**position, "files": files}) + "\n")
    for path in [*part.iterdir(), part]:
        _to_disk(path)
    if target.exists():
        shutil.rmtree(target)
    part.rename(target)
    _to_disk(run)
    kept = [target, *_states(run)[:2]]
    for other in run.glob(f"{PREFIX}*"):
        if other not in kept:
            shutil.rmtree(other, ignore_errors=True)


def _is_full(error: BaseException) -> bool:
    """torch hands on an error of its threads within others."""
    failures = getattr(error, "failures", {}).values()
    inner = [each[0] if isinstance(each, tuple) else each for each in failures]
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return any(isinstance(each, BaseException) and _is_full(each) for each in inner)


def load(state: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer, processes: Processes) -> None:
    tensors = _tensors(model, optimizer)
    try:
        with quiet():
            dcp.load(tensors, checkpoint_id=state, no_dist=processes.world == 1)
    except (OSError, KeyError, ValueError, RuntimeError, dcp.api.CheckpointException) as error:
        raise InputError("invalid_request", f"{state}: is not a state of this run: {str(error).splitlines()[0]}") from None
    set_state_dict(
        model, optimizer, model_state_dict=tensors["model"], optim_state_dict=tensors["optimizer"], options=ONLY_TRAINED
    )


def _tensors(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> Dict[str, Any]:
    """What is trained, and its moments. torch leaves out frozen parameters by one of their names: not a tied head."""
    weights, moments = get_state_dict(model, optimizer, options=ONLY_TRAINED)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    return {"model": {name: value for name, value in weights.items() if name in trained}, "optimizer": moments}


def quiet() -> warnings.catch_warnings:
    """torch warns on each save that there is one process."""
    caught = warnings.catch_warnings()
    warnings.simplefilter("ignore")
    return caught


def _to_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
