"""What the worker needs in Slicer's Python besides Slicer's own packages, and how it is installed after a question.

Nothing here imports torch, and nothing runs at import. (The PyTorch extension itself imports torch into Slicer's
process at the end of an installation, and only then.) numpy and SimpleITK are Slicer's own: a constraints file forbids
pip to replace them, also in the installation that the PyTorch extension runs.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import slicer
import slicer.util
from slicer.i18n import tr as _

from autofuse_engine.errors import AutoFuseError

TORCH_VERSION = ">=2.2"
REQUIREMENTS = {"torch": f"torch{TORCH_VERSION}", "safetensors": "safetensors>=0.4"}
KEPT = ("numpy", "SimpleITK")
"""Packages of Slicer's own whose version no installation may change."""


class DependencyError(AutoFuseError):
    """Packages are missing and could not be installed."""


class DependencyDeclinedError(DependencyError):
    """The user did not want the installation; nothing is wrong."""


def missing() -> list[str]:
    """Which of "torch" and "safetensors" are absent or too old, by their metadata alone."""
    importlib.invalidate_caches()
    return [name for name, requirement in REQUIREMENTS.items() if not _fits(requirement)]


def ensure(ask: bool = True) -> None:
    """Install what is missing; does nothing where nothing is.

    Call this at the moment when the worker is needed, not before. With Slicer's ``--testing`` nothing is installed and
    nothing is asked.

    Args:
        ask: put one question to the user first. Scripts that pass False have agreed already.

    Raises:
        DependencyDeclinedError: ``dependencies-declined`` if the user does not agree.
        DependencyError: ``pytorch-extension-missing``; ``dependencies-not-installed`` if the installation failed;
            ``dependencies-missing`` in testing mode.
    """
    names = missing()
    if not names:
        return
    if slicer.app.testingEnabled():
        text = _("Python packages are missing: {names}.").format(names=", ".join(names))
        raise DependencyError("dependencies-missing", text, _("Slicer installs nothing when it runs with --testing."))
    torchUtils = _pyTorchUtils() if "torch" in names else None
    if ask and not slicer.util.confirmOkCancelDisplay(question(names), _("AutoFuse - Install Python packages")):
        raise _declined()
    loaded = {name: _version(name) for name in names if name in sys.modules}
    try:
        with _keepingSlicersPackages() as constraints:
            if torchUtils is not None:
                _installTorch(torchUtils)
            if "safetensors" in names:
                _pipInstall(REQUIREMENTS["safetensors"], constraints)
    except AutoFuseError:
        raise
    except Exception as error:
        logging.exception("AutoFuse: the installation of Python packages failed.")
        raise _notInstalled(names, f"{type(error).__name__}: {error}") from error
    left = missing()
    if left:
        raise _notInstalled(left, _("pip reported success, but they are still absent or too old"))
    _offerRestart({name: version for name, version in loaded.items() if version != _version(name)})


def question(names: list[str]) -> str:
    """What the user is asked before these packages are installed."""
    texts = {
        "torch": _("PyTorch, by the PyTorch extension: a download of 0.2 GB, or of up to 3 GB for an NVIDIA GPU, which"
                   " needs up to 7 GB of disk space"),
        "safetensors": _("safetensors: a download of less than 1 MB"),
    }  # fmt: skip
    items = "\n".join(f"- {texts[name]}" for name in names)
    return _(
        "To compute, AutoFuse needs Python packages that Slicer does not have yet:\n\n{items}\n\n"
        "They are downloaded from the internet and installed into Slicer's Python; nothing of Slicer's own is replaced."
        " This takes some minutes. Install them now?"
    ).format(items=items)


def _fits(text: str) -> bool:
    from packaging.requirements import Requirement  # of Slicer's own; here, as modules import nothing else at their top

    requirement = Requirement(text)
    version = _version(requirement.name)
    return version is not None and requirement.specifier.contains(version, prereleases=True)


def _version(name: str) -> str | None:
    """Version of an installed package; None if it is absent, or so damaged that it has none."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _pyTorchUtils() -> Any:
    """The module of the PyTorch extension."""
    try:
        import PyTorchUtils
    except ImportError as error:
        text = _("PyTorch cannot be installed: the Slicer extension PyTorch is absent.")
        cure = _('Install the extension "PyTorch" with the Extensions Manager, restart Slicer, and try again.')
        raise DependencyError("pytorch-extension-missing", text, cure) from error
    return PyTorchUtils


def _installTorch(torchUtils: Any) -> None:
    """Let the PyTorch extension choose the build that fits the graphics driver."""
    made = torchUtils.PyTorchUtilsLogic().installTorch(askConfirmation=False, torchVersionRequirement=TORCH_VERSION)
    if made is None:  # how the extension says that the user declined a question of its own
        raise _declined()


def _pipInstall(requirement: str, constraints: Path) -> None:
    """Install one package with what this Slicer offers; ``slicer.packaging`` exists since 5.11."""
    try:
        from slicer.packaging import pip_ensure
    except ImportError:
        slicer.util.pip_install([requirement, "-c", str(constraints)])
        return
    pip_ensure(requirement, constraints=constraints, prompt_install=False, prompt_restart=False, requester="AutoFuse")


@contextlib.contextmanager
def _keepingSlicersPackages() -> Iterator[Path]:
    """A constraints file that pins Slicer's own packages, for every pip that is started in this context.

    pip takes options from variables of the environment, which reaches the pip inside the PyTorch extension too. Such a
    list is separated by spaces, so the path is given as an address, which has none.
    """
    with tempfile.TemporaryDirectory(prefix="AutoFuse-", dir=_temporaryFolder()) as folder:
        path = Path(folder) / "constraints.txt"
        path.write_text("\n".join([*_pins(), ""]), encoding="utf-8")
        before = os.environ.get("PIP_CONSTRAINT")
        os.environ["PIP_CONSTRAINT"] = f"{before} {path.as_uri()}" if before else path.as_uri()
        try:
            yield path
        finally:
            if before is None:
                del os.environ["PIP_CONSTRAINT"]
            else:
                os.environ["PIP_CONSTRAINT"] = before


def _pins() -> list[str]:
    """Slicer's own packages in the versions that are installed."""
    from packaging.requirements import InvalidRequirement, Requirement

    pins = []
    for name in KEPT:
        version = _version(name)
        try:
            pins += [] if version is None else [str(Requirement(f"{name}=={version}"))]
        except InvalidRequirement:
            logging.warning("AutoFuse: pip cannot keep %s %s, whose version it does not understand.", name, version)
    return pins


def _temporaryFolder() -> str:
    folder = Path(slicer.app.temporaryPath)
    folder.mkdir(parents=True, exist_ok=True)
    return str(folder)


def _offerRestart(replaced: dict[str, str | None]) -> None:
    """The worker is a new process and finds the new packages; modules that have loaded the old ones do not."""
    if not replaced:
        return
    text = _(
        "Another module of this Slicer uses an older version of {names}, which was replaced. AutoFuse works at once;"
        " for the other module Slicer must be restarted. Unsaved work would be lost. Restart now?"
    ).format(names=", ".join(replaced))
    if slicer.util.confirmYesNoDisplay(text, _("AutoFuse - Restart recommended")):
        slicer.util.restart()


def _declined() -> DependencyDeclinedError:
    return DependencyDeclinedError(
        "dependencies-declined",
        _("The installation of Python packages was declined, so nothing was computed."),
        _("Try again to be asked once more."),
    )


def _notInstalled(names: list[str], reason: str) -> DependencyError:
    return DependencyError(
        "dependencies-not-installed",
        _("Python packages could not be installed ({names}): {reason}.").format(
            names=", ".join(names), reason=reason.rstrip(".")
        ),
        _("Check the network and the free disk space, restart Slicer and try again; the Python console has pip's log."),
    )
