"""The processes of torchrun, one for each GPU or share of the CPU, or a single process."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel


@dataclass(frozen=True)
class Processes:
    """This process's number, the number of processes, and this process's device."""

    rank: int
    count: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def distribute(self, network: nn.Module) -> nn.Module:
        """Returns the network, or a wrapper that averages gradients over all processes."""
        return DistributedDataParallel(network) if self.count > 1 else network

    def wait(self) -> None:
        if self.count > 1:
            dist.barrier()

    def agree(self, flag: bool) -> bool:
        """Returns the flag of the first process, in all processes."""
        if self.count == 1:
            return flag
        answer = torch.tensor(float(flag), device=self.device)
        dist.broadcast(answer, 0)
        return bool(answer)


def join() -> Processes:
    """Joins the processes of torchrun. Without torchrun, this process is the only one."""
    gpu = torch.cuda.is_available()
    count = int(os.environ.get("WORLD_SIZE", 1))
    device = (
        torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0))) if gpu else torch.device("cpu")
    )
    if count > 1 and not dist.is_initialized():
        if gpu:
            torch.cuda.set_device(device)
        dist.init_process_group("nccl" if gpu else "gloo")
    return Processes(int(os.environ.get("RANK", 0)), count, device)
