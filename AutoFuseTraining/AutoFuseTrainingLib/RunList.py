"""The runs that this computer's user has to do with: remembered in Slicer's settings, and what lies beside them."""

from __future__ import annotations

import json
from pathlib import Path

import qt

from autofuse_engine.run_folder import RunFolder
from AutoFuseLib.RunWatcher import LaunchFiles

SETTING = "AutoFuse/TrainingRuns"
_MOST = 200


def remembered() -> list[Path]:
    """The folders that were started or added, the last one first; also those that are gone."""
    try:
        content = json.loads(str(qt.QSettings().value(SETTING) or "[]"))
    except ValueError:
        return []
    return [Path(str(entry)) for entry in content] if isinstance(content, list) else []


def remember(folder: str | Path) -> None:
    """Put a folder first."""
    path = Path(folder).absolute()
    _store([path, *(other for other in remembered() if other != path)])


def forget(folder: str | Path) -> None:
    """Take a folder off the list."""
    path = Path(folder).absolute()
    _store([other for other in remembered() if other != path])


def known() -> list[Path]:
    """Runs that are there: remembered ones, then others in the folders around them, by name."""
    first = [path for path in remembered() if isRun(path)]
    parents = list(dict.fromkeys(path.parent for path in remembered()))
    beside = [child for parent in parents for child in _childrenOf(parent) if child not in first and isRun(child)]
    return first + beside


def isRun(folder: Path) -> bool:
    """Whether a training was started there, or is about to begin."""
    run, launch = RunFolder(folder), LaunchFiles(folder)
    try:
        return (run.config.is_file() and (run.checkpoints.is_dir() or run.metrics.is_file())) or launch.record.is_file()
    except OSError:
        return False


def _childrenOf(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.is_dir())[:_MOST]
    except OSError:
        return []


def _store(folders: list[Path]) -> None:
    qt.QSettings().setValue(SETTING, json.dumps([str(path) for path in folders[:_MOST]]))
