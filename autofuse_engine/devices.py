"""Which devices this computer offers, and the one that a user means."""

from __future__ import annotations

import platform
from typing import Any

import torch

from autofuse_engine.errors import DeviceError
from autofuse_engine.memory import free_memory_bytes


def resolve_device(name: str) -> torch.device:
    """The device called ``auto`` (the first GPU if there is one, else the CPU), ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        DeviceError: ``device-unknown`` or ``device-absent``.
    """
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        return torch.device("cuda:0" if count else "cpu")
    kind, _, number = name.partition(":")
    if kind not in ("cpu", "cuda") or (number and not number.isdecimal()) or (kind == "cpu" and number):
        raise DeviceError("device-unknown", f"There is no device called {name!r}.", "Choose auto, cpu, cuda or cuda:N.")
    if kind == "cuda" and int(number or 0) >= count:
        found = ", ".join(f"cuda:{index}" for index in range(count)) or "no CUDA device"
        raise DeviceError(
            "device-absent",
            f"The device {name} is not there: PyTorch {torch.__version__} finds {found}.",
            "Choose cpu or auto, or install a PyTorch build that matches the GPU's driver.",
        )
    return torch.device("cpu" if kind == "cpu" else f"cuda:{int(number or 0)}")


def list_devices() -> list[dict[str, Any]]:
    """The CPU first, then the GPUs: id, name, free_gib (None where the system does not tell)."""
    names = [("cpu", platform.processor() or platform.machine())]
    if torch.cuda.is_available():
        names += [(f"cuda:{index}", torch.cuda.get_device_name(index)) for index in range(torch.cuda.device_count())]
    return [{"id": key, "name": name, "free_gib": _gib(free_memory_bytes(torch.device(key)))} for key, name in names]


def _gib(size: int | None) -> float | None:
    return None if size is None else size / 2**30
