"""Stand-in of ``slicer.packaging``: the same questions and refusals, and nothing is ever installed."""

from __future__ import annotations

import importlib.metadata
import logging
from pathlib import Path
from typing import Any

import slicer
import slicer.util
from packaging.requirements import InvalidRequirement, Requirement
from slicer.i18n import tr as _


def load_requirements(path: str | Path) -> list[Requirement]:
    """The requirements of a requirements.txt file; comments and pip's options are skipped."""
    lines = [line.partition(" #")[0].strip() for line in Path(path).read_text(encoding="utf-8").splitlines()]
    return [Requirement(line) for line in lines if line and not line.startswith(("#", "-"))]


def _requirements(requirements: Any) -> list[Requirement]:
    if isinstance(requirements, Requirement):
        return [requirements]
    entries = requirements.split() if isinstance(requirements, str) else requirements
    try:
        return [entry if isinstance(entry, Requirement) else Requirement(entry) for entry in entries]
    except InvalidRequirement as error:
        raise ValueError(f"Invalid requirement: {error}") from error


def pip_check(requirements: Any) -> bool:
    """Whether all requirements are installed in a fitting version."""
    for requirement in _requirements(requirements):
        if requirement.marker is not None and not requirement.marker.evaluate():
            continue
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            return False
        if not requirement.specifier.contains(version, prereleases=True):
            return False
    return True


def isPipInstallInProgress() -> bool:
    """Whether an installation runs; the host never starts one."""
    return False


def pip_ensure(
    requirements: Any,
    constraints: Any = None,
    skip_packages: Any = None,
    prompt_install: bool = True,
    prompt_restart: bool = True,
    requester: str | None = None,
    skip_in_testing: bool = True,
    show_progress: bool = True,
) -> None:
    """Ask for what is missing and "install" it.

    Raises:
        RuntimeError: if the user declines.
    """
    missing = [requirement for requirement in _requirements(requirements) if not pip_check(requirement)]
    if not missing:
        return
    names = [str(requirement) for requirement in missing]
    if skip_in_testing and slicer.app.testingEnabled():
        logging.info("Testing mode is enabled: skipping pip_ensure for [%s]", ", ".join(names))
        return
    if prompt_install:
        title = _("Install Python Packages")
        title = f"{requester} - {title}" if requester else title
        text = _("{count} Python packages need to be installed.").format(count=len(names))
        if not slicer.util.confirmOkCancelDisplay(text, title, detailedText="\n".join(names)):
            raise RuntimeError("User declined package installation")
    pip_install(names, constraints=constraints, skip_packages=skip_packages, requester=requester)


def pip_install(requirements: Any, **options: Any) -> None:
    """Record an installation in the host's messages."""
    from Testing.host import messages

    names = requirements if isinstance(requirements, str) else " ".join(str(entry) for entry in requirements)
    messages.current.append(messages.Message("pipInstall", names, details=options))


def pip_uninstall(requirements: Any, **options: Any) -> None:
    """Record a removal in the host's messages."""
    from Testing.host import messages

    names = requirements if isinstance(requirements, str) else " ".join(str(entry) for entry in requirements)
    messages.current.append(messages.Message("pipUninstall", names, details=options))
