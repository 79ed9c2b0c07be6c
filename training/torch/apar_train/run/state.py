"""The state of a run on disk: RUN/state-STEP/, complete or not there at all.

It is written beside and renamed, and the one before is removed afterwards, so a run may be killed at any moment. What is
drawn and dropped is a function of seed and step, so weights, moments and the step are all that a run needs to go on.
"""

import json
import os
import shutil
import warnings
from pathlib import Path
from typing import Any, Dict, Optional

import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict, set_state_dict

from ..errors import InputError
from .processes import Processes

PREFIX, POSITION, UNFINISHED = "state-", "position.json", ".part"
ONLY_TRAINED = StateDictOptions(ignore_frozen_params=True, strict=False)


def newest(run: Path) -> Optional[Path]:
    """The folder to go on from; leftovers of a killed process are not looked at."""
    found = [path for path in run.glob(f"{PREFIX}*") if path.name[len(PREFIX) :].isdigit() and (path / POSITION).is_file()]
    return max(found, key=lambda path: int(path.name[len(PREFIX) :]), default=None)


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
    weights, moments = get_state_dict(model, optimizer, options=ONLY_TRAINED)
    with quiet():
        dcp.save({"model": weights, "optimizer": moments}, checkpoint_id=part, no_dist=processes.world == 1)
    processes.wait()
    if not processes.first:
        return
    (part / POSITION).write_text(json.dumps(position) + "\n")
    for path in [*part.iterdir(), part]:
        _to_disk(path)
    if target.exists():
        shutil.rmtree(target)
    part.rename(target)
    _to_disk(run)
    for other in run.glob(f"{PREFIX}*"):
        if other != target:
            shutil.rmtree(other, ignore_errors=True)


def load(state: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer, processes: Processes) -> None:
    weights, moments = get_state_dict(model, optimizer, options=ONLY_TRAINED)
    tensors = {"model": weights, "optimizer": moments}
    try:
        with quiet():
            dcp.load(tensors, checkpoint_id=state, no_dist=processes.world == 1)
    except (OSError, KeyError, ValueError, RuntimeError, dcp.api.CheckpointException) as error:
        raise InputError("invalid_request", f"{state}: is not a state of this run: {str(error).splitlines()[0]}") from None
    set_state_dict(
        model, optimizer, model_state_dict=tensors["model"], optim_state_dict=tensors["optimizer"], options=ONLY_TRAINED
    )


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
