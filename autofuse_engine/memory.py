"""How much memory is free, and how much this process has used at most; Windows, macOS and Linux."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path
from typing import Any

import torch


def free_memory_bytes(device: torch.device) -> int | None:
    """Free memory of the device, or of the machine for the CPU; None where the system does not tell."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    if sys.platform == "win32":
        return _windows_free_bytes()
    if sys.platform == "darwin":
        return None
    return _linux_figure_bytes("/proc/meminfo", "MemAvailable:")


def peak_memory_bytes(device: torch.device) -> int | None:
    """Most memory that PyTorch held on a CUDA device, or that this process held resident on the CPU."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    if sys.platform == "win32":
        return _windows_process_bytes("size_0")  # PeakWorkingSetSize
    if sys.platform == "darwin":
        import resource

        return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    return _linux_figure_bytes("/proc/self/status", "VmHWM:")


def resident_memory_bytes() -> int | None:
    """Memory of this process that lies in the machine's memory now; None on macOS, which tells only the most."""
    if sys.platform == "win32":
        return _windows_process_bytes("size_1")  # WorkingSetSize
    if sys.platform == "darwin":
        return None
    return _linux_figure_bytes("/proc/self/status", "VmRSS:")


def reset_peak(device: torch.device) -> None:
    """Start a new count on a device that can; the CPU's count covers the life of the process where it cannot."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif sys.platform == "linux":
        try:
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        except OSError:
            return  # containers may forbid it; the peak then covers the life of the process, which is an upper bound


def is_out_of_memory(error: BaseException) -> bool:
    """True for what PyTorch raises when an allocation fails on the GPU or the CPU."""
    return (
        isinstance(error, (torch.cuda.OutOfMemoryError, MemoryError))
        or (isinstance(error, RuntimeError) and "not enough memory" in str(error))
        or (isinstance(error, RuntimeError) and "can't allocate memory" in str(error))
    )


def _linux_figure_bytes(path: str, name: str) -> int | None:
    for line in Path(path).read_text(encoding="ascii").splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    return None


def _windows_free_bytes() -> int | None:
    class Status(ctypes.Structure):
        _fields_ = (
            ("length", ctypes.c_ulong),
            ("load", ctypes.c_ulong),
            *((name, ctypes.c_ulonglong) for name in ("total", "free", "page", "free_page", "virtual", "free_virtual")),
            ("extended", ctypes.c_ulonglong),
        )

    status = Status()
    status.length = ctypes.sizeof(status)
    windows: Any = getattr(ctypes, "windll", None)
    return int(status.free) if windows.kernel32.GlobalMemoryStatusEx(ctypes.byref(status)) else None


def _windows_process_bytes(name: str) -> int | None:
    class Counters(ctypes.Structure):
        _fields_ = (
            ("size", ctypes.c_ulong),
            ("faults", ctypes.c_ulong),
            *((f"size_{number}", ctypes.c_size_t) for number in range(8)),
        )

    counters = Counters()
    counters.size = ctypes.sizeof(counters)
    windows: Any = getattr(ctypes, "windll", None)
    handle = ctypes.c_void_p(-1)  # the pseudo handle of the current process
    filled = windows.psapi.GetProcessMemoryInfo(handle, ctypes.byref(counters), counters.size)
    return int(getattr(counters, name)) if filled else None
