"""The packages of other people whose methods can be compared with: looked up by name, loaded when first needed."""

from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from autofuse_engine.errors import InputError


@dataclass(frozen=True, kw_only=True)
class PeerPackage:
    """How a peer's package is called where it is installed from, and where it is imported."""

    distribution: str
    module: str


PACKAGES: Mapping[str, PeerPackage] = {
    "syn": PeerPackage(distribution="antspyx", module="ants"),
    "elastix": PeerPackage(distribution="itk-elastix", module="itk"),
    "voxelmorph": PeerPackage(distribution="voxelmorph", module="voxelmorph"),
}
"""By kind of method."""


def installed_version(kind: str) -> str | None:
    """The version of the package of a peer, or None where it is not installed; imports nothing."""
    try:
        return importlib.metadata.version(PACKAGES[kind].distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def load_peer(kind: str, module: str | None = None) -> Any:
    """Import the package of a peer.

    Args:
        kind: key of :data:`PACKAGES`.
        module: another module that comes with it, such as neurite with voxelmorph.

    Raises:
        InputError: ``peer-not-installed`` where it is absent or does not load.
    """
    package = PACKAGES[kind]
    if installed_version(kind) is None:
        raise InputError(
            "peer-not-installed",
            f"The method {kind} needs the package {package.distribution}, which is not installed.",
            f"Install it with 'pip install {package.distribution}', or leave the method out.",
        )
    try:
        return importlib.import_module(module or package.module)
    except (ImportError, OSError) as error:
        raise InputError(
            "peer-not-installed",
            f"The method {kind} needs the package {package.distribution}, which does not load: {_one_line(error)}.",
            f"Install it anew with 'pip install --force-reinstall {package.distribution}', or leave the method out.",
        ) from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".")
