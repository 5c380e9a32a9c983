"""The curves of a run for TensorBoard, where that package is installed; without it, nothing is written."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class TensorboardLog:
    """Scalars below ``folder``; steps after ``last_step`` of an earlier process are hidden. A run needs it not."""

    def __init__(self, folder: Path, last_step: int) -> None:
        self._writer: Any = None
        if importlib.util.find_spec("tensorboard") is not None:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(folder), purge_step=max(last_step, 0) + 1)

    def add(self, group: str, step: int, values: Mapping[str, Any]) -> None:
        """Add the values that are ``float``, as ``group/name``."""
        if self._writer is not None:
            for name, value in values.items():
                if isinstance(value, float):
                    self._writer.add_scalar(f"{group}/{name}", value, step)

    def close(self) -> None:
        """Write what is left, and close the file."""
        if self._writer is not None:
            self._writer.close()
