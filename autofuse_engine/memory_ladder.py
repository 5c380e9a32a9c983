"""Where memory does not suffice for a pair: try again with less of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import torch

from autofuse_engine.configs import RegistrationConfig
from autofuse_engine.errors import DeviceError
from autofuse_engine.events import Report, Warning
from autofuse_engine.memory import is_out_of_memory
from autofuse_engine.search_records import Attempt, Found


def search_with_less_and_less_memory(
    config: RegistrationConfig,
    device: torch.device,
    find: Callable[[Attempt], Found],
    report: Report,
) -> tuple[Found, torch.device]:
    """Try, and where memory does not suffice try with less: half precision, coarser working grids, then the CPU.

    Raises:
        DeviceError: ``out-of-memory`` if the last rung fails too.
    """
    reason = ""
    for number, attempt in enumerate(_ladder(config, device)):
        if number:
            report(Warning(code="less-memory", text=f"Memory does not suffice ({reason}): trying {attempt}."))
        try:
            return find(attempt), attempt.device
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            reason = str(error).splitlines()[0][:160]
        if attempt.device.type == "cuda":
            torch.cuda.empty_cache()
    raise DeviceError(
        "out-of-memory",
        f"The memory of {device} does not suffice for this pair ({reason}).",
        "Close other programs, or choose a coarser working grid with --spacing.",
    )


def _ladder(config: RegistrationConfig, device: torch.device) -> Iterator[Attempt]:
    first = Attempt(device=device, precision=config.precision)
    yield first
    if device.type == "cuda" and config.model != "none" and config.precision == "float32":
        first = replace(first, precision="bfloat16")
        yield first
    for coarser in (1.5, 2.0):
        yield replace(first, coarser=coarser)
    if device.type == "cuda":
        first = Attempt(device=torch.device("cpu"), precision="float32")
        yield first
        for coarser in (1.5, 2.0):
            yield replace(first, coarser=coarser)
    else:
        yield replace(first, coarser=3.0)
