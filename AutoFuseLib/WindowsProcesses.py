"""Processes below a launcher on Windows, which has no polite signal for programs without a window."""

from __future__ import annotations

import os
import subprocess

SYNCHRONIZE = 0x00100000
WAIT_TIMEOUT = 0x00000102
CREATE_NO_WINDOW = 0x08000000


class WindowsTree:
    """A process and all below it: ``taskkill /T`` finds the children of those that still run."""

    def __init__(self, root: int) -> None:
        self._known = [root]

    def add(self, processId: int) -> None:
        """Enter a process that outlives the launcher's end: ``taskkill`` cannot find it from there any more."""
        if processId and processId not in self._known:
            self._known.append(processId)

    def alive(self) -> bool:
        """Whether any of the entered processes runs."""
        return any(isRunning(processId) for processId in self._known)

    def terminate(self) -> None:
        """End all: a console program on Windows has no other way to be asked than its closed stdin."""
        self.kill()

    def kill(self) -> None:
        """End all, without waiting for it."""
        chosen = [word for processId in self._known if isRunning(processId) for word in ("/PID", str(processId))]
        if chosen:
            subprocess.Popen(
                ["taskkill", "/T", "/F", *chosen],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                creationflags=CREATE_NO_WINDOW if os.name == "nt" else 0,
            )


def isRunning(processId: int) -> bool:
    """Whether a process of that id runs (Windows)."""
    import ctypes
    from ctypes import wintypes

    kernel = ctypes.WinDLL("kernel32")
    kernel.OpenProcess.restype = wintypes.HANDLE
    kernel.OpenProcess.argtypes = (wintypes.DWORD, wintypes.BOOL, wintypes.DWORD)
    kernel.WaitForSingleObject.argtypes = (wintypes.HANDLE, wintypes.DWORD)
    kernel.CloseHandle.argtypes = (wintypes.HANDLE,)
    handle = kernel.OpenProcess(SYNCHRONIZE, False, processId)
    if not handle:
        return False
    try:
        return kernel.WaitForSingleObject(handle, 0) == WAIT_TIMEOUT
    finally:
        kernel.CloseHandle(handle)
