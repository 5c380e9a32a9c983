"""The processes that a launcher started: find them, see whether they live, and end them all.

``PythonSlicer`` is a launcher whose child does the work and outlives the launcher's end. A tree therefore remembers
each process that it has seen below its root, by id and time of start, so that an id that the system gave away again is
never mistaken for it. Linux tells this in ``/proc``, other POSIX systems through ``ps``, Windows through ``taskkill``.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from AutoFuseLib import WindowsProcesses

PROC = Path("/proc")
ROUNDS = 3
"""How often killing looks again for processes that were started meanwhile."""


@dataclass(frozen=True)
class ProcessEntry:
    """One line of the system's table of processes; ``started`` has no unit, it only differs from start to start."""

    parent: int
    started: str
    ended: bool


def makeProcessTree(root: int) -> ProcessTree | WindowsProcesses.WindowsTree:
    """The tree below a process that runs now, by its id."""
    return WindowsProcesses.WindowsTree(root) if os.name == "nt" else ProcessTree(root)


class ProcessTree:
    """A process and all below it, also those that have lost their parent since they were seen (POSIX)."""

    def __init__(self, root: int) -> None:
        self._known: dict[int, str] = {}
        table = processTable()
        if root in table:
            self._known[root] = table[root].started
        self._grow(table)

    def add(self, processId: int) -> None:
        """Look for new processes; ``processId``, which Windows needs, is found below the root if it belongs there."""
        self._grow(processTable())

    def alive(self) -> bool:
        """Whether any process of the tree runs; does not look for new ones."""
        return bool(self._living(processTable(self._known)))

    def terminate(self) -> None:
        """Ask all to end (SIGTERM)."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """End all, also those that were started meanwhile (SIGKILL)."""
        for _round in range(ROUNDS):
            if not self._signal(signal.SIGKILL):
                return

    def _signal(self, number: int) -> int:
        table = processTable()
        self._grow(table)
        living = self._living(table)
        for processId in living:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(processId, number)
        return len(living)

    def _living(self, table: dict[int, ProcessEntry]) -> list[int]:
        """Known processes that still run, parents before children."""
        return [
            processId
            for processId, started in self._known.items()
            if processId in table and table[processId].started == started and not table[processId].ended
        ]

    def _grow(self, table: dict[int, ProcessEntry]) -> None:
        """Enter everything below the known processes."""
        children: dict[int, list[int]] = {}
        for processId, entry in table.items():
            children.setdefault(entry.parent, []).append(processId)
        frontier = self._living(table)
        while frontier:
            frontier = [child for parent in frontier for child in children.get(parent, ()) if child not in self._known]
            self._known.update((child, table[child].started) for child in frontier)


def processTable(only: Iterable[int] | None = None) -> dict[int, ProcessEntry]:
    """The running processes by id, all of them or only some (POSIX)."""
    return _tableOfProc(only) if (PROC / "self" / "stat").exists() else tableOfPs(only)


def _tableOfProc(only: Iterable[int] | None) -> dict[int, ProcessEntry]:
    names = [path.name for path in PROC.iterdir() if path.name.isdigit()] if only is None else map(str, only)
    table = {}
    for name in names:
        try:
            text = (PROC / name / "stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue  # it ended while we looked
        fields = text.rpartition(")")[2].split()  # the command's name, in brackets, may hold anything
        table[int(name)] = ProcessEntry(int(fields[1]), fields[19], fields[0] in "ZX")
    return table


def tableOfPs(only: Iterable[int] | None = None) -> dict[int, ProcessEntry]:
    """The table as ``ps`` prints it, for systems without ``/proc``."""
    wanted = None if only is None else ",".join(map(str, only))
    if wanted == "":
        return {}
    chosen = ["-A"] if wanted is None else ["-p", wanted]
    command = ["ps", *chosen, "-o", "pid=,ppid=,stat=,lstart="]
    done = subprocess.run(command, capture_output=True, env={**os.environ, "LC_ALL": "C"}, check=False)
    rows = [line.split(None, 3) for line in done.stdout.decode("utf-8", errors="replace").splitlines()]
    return {int(row[0]): ProcessEntry(int(row[1]), row[3].strip(), row[2][:1] == "Z") for row in rows if len(row) == 4}
