"""One process, or several under torchrun: DDP, or FSDP2 (fully_shard)."""

import contextlib
import os
from dataclasses import dataclass
from typing import Any, ContextManager, List, Optional

import torch
import torch.distributed as dist
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.nn.parallel import DistributedDataParallel
from transformers import PreTrainedModel


@dataclass(frozen=True)
class Processes:
    rank: int
    world: int
    device: torch.device

    @property
    def first(self) -> bool:
        return self.rank == 0

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        if self.world > 1:
            dist.all_reduce(values)
        return values

    def agree(self, *values: float) -> List[float]:
        """The largest value of any process: clocks differ, and a signal may reach one of them first."""
        if self.world == 1:
            return list(values)
        shared = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(shared, dist.ReduceOp.MAX)
        return shared.tolist()

    def wait(self) -> None:
        if self.world > 1:
            dist.barrier()


def join(device: Optional[str], threads: int) -> Processes:
    kind = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if threads:
        torch.set_num_threads(threads)
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        return Processes(0, 1, torch.device(kind))
    if kind.startswith("cuda"):
        kind = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(kind)
    dist.init_process_group("nccl" if kind.startswith("cuda") else "gloo")
    return Processes(dist.get_rank(), world, torch.device(kind))


def leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


class Parallel:
    """The model as it is called in training."""

    def __init__(self, model: torch.nn.Module, plain: PreTrainedModel, kind: str, processes: Processes, dtype: torch.dtype) -> None:
        self.sharded = processes.world > 1 and kind == "fsdp"
        if self.sharded:
            policy = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32)
            for layer in decoder_layers(plain):
                fully_shard(layer, mp_policy=policy)
            fully_shard(model, mp_policy=policy)
            self.call: Any = model
        elif processes.world > 1:
            self.call = DistributedDataParallel(model)
        else:
            self.call = model

    def accumulate(self, last: bool) -> ContextManager[Any]:
        """Gradients are exchanged with the last pack of a step only. FSDP2 exchanges them with every pack: kept whole until
        the last one they would need the memory that it saves."""
        if last or not isinstance(self.call, DistributedDataParallel):
            return contextlib.nullcontext()
        return self.call.no_sync()


def decoder_layers(model: PreTrainedModel) -> List[torch.nn.Module]:
    """The longest list of modules of one class: the decoder's layers in every causal model of transformers."""
    lists = [module for module in model.modules() if isinstance(module, torch.nn.ModuleList) and len(module) > 0]
    return list(max(lists, key=lambda layers: sum(p.numel() for p in layers.parameters())))
