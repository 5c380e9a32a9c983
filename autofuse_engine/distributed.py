"""Several processes that train one network together, as torchrun starts them; one process needs nothing of this."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, distributed

from autofuse_engine.devices import resolve_device
from autofuse_engine.errors import DeviceError


@dataclass(frozen=True, kw_only=True)
class Processes:
    """This process among those that train together.

    Attributes:
        rank: number of this process over all computers; 0 writes all files.
        count: number of processes.
        device: of this process.
    """

    rank: int
    count: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this process writes."""
        return self.rank == 0

    def summed(self, values: Tensor) -> Tensor:
        """The sum of a tensor over all processes, on the CPU, in float64; each calls it at the same point."""
        values = values.detach().double()
        if self.count > 1:
            values = values.to(self.device)
            distributed.all_reduce(values)
        return values.cpu()

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process."""
        return bool(flag) if self.count == 1 else bool(self.summed(torch.tensor(float(flag))) > 0)


@contextmanager
def joined_processes(device_name: str) -> Iterator[Processes]:
    """Meet the other processes that torchrun started with this one, if any.

    Args:
        device_name: as ``devices.resolve_device`` takes it; ``auto`` and ``cuda`` become one GPU for each process.

    Raises:
        DeviceError: ``device-unknown``, ``device-absent``, ``processes-without-device``.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield Processes(rank=0, count=1, device=resolve_device(device_name))
        return
    rank, local_rank = (int(os.environ[name]) for name in ("RANK", "LOCAL_RANK"))
    device = resolve_device(device_name)
    if device.type == "cuda":
        if ":" in device_name:
            raise DeviceError(
                "processes-without-device",
                f"{count} processes cannot share the one device {device_name}.",
                "Choose the device auto or cuda: each process takes a GPU of its own.",
            )
        device = resolve_device(f"cuda:{local_rank}")
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Processes(rank=rank, count=count, device=device)
    finally:
        distributed.destroy_process_group()
