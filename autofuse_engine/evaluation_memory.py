"""How much memory a piece of work takes at most, beyond what the process held before."""

from __future__ import annotations

import ctypes
import gc
import sys
import threading
from types import TracebackType

import torch

from autofuse_engine.memory import peak_memory_bytes, reset_peak, resident_memory_bytes

_INTERVAL_S = 0.005
_ROUNDING_BYTES = 8 << 20
"""The high-water mark that the kernel was asked to reset may lie this much above what is resident now."""


class PeakMemory:
    """A context manager that watches the memory of this process, or of the allocator of a CUDA device.

    On a CPU a thread looks at the resident memory every few milliseconds; where Linux allows its high-water mark to be
    reset, that counts too, so that short peaks are seen. Free memory that the C library keeps is given back before.

    Attributes:
        gib: afterwards, the most memory beyond what was held at the start; None where the system does not tell (macOS).
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.gib: float | None = None
        self._before: int | None = None
        self._most = 0
        self._has_mark = False
        self._done = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> PeakMemory:
        if self._device.type == "cuda":
            reset_peak(self._device)
            self._before = int(torch.cuda.memory_allocated(self._device))
            return self
        _give_back()
        reset_peak(self._device)
        self._before = resident_memory_bytes()
        if self._before is not None:
            mark = peak_memory_bytes(self._device)
            self._has_mark = sys.platform == "linux" and mark is not None and mark <= self._before + _ROUNDING_BYTES
            self._thread = threading.Thread(target=self._watch, name="peak-memory", daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        if self._thread is not None:
            self._thread.join()
        if self._before is None:
            return
        most = self._most
        if self._device.type == "cuda" or self._has_mark:
            most = max(most, peak_memory_bytes(self._device) or 0)
        self.gib = max(0, most - self._before) / 2**30

    def _watch(self) -> None:
        while not self._done.wait(_INTERVAL_S):
            self._most = max(self._most, resident_memory_bytes() or 0)


def _give_back() -> None:
    """Free what nobody uses, so that what an earlier piece of work left behind does not hide what this one takes."""
    gc.collect()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # of glibc; other C libraries have none
        if trim is not None:
            trim(0)
