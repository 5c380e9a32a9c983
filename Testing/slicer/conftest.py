"""What the tests on Slicer's libraries share: the host's fixtures, and a look at the machine before anything loads.

A missing system library ends slicer-core and Qt with a segmentation fault, so nothing is imported without them.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from Testing.host.fixtures import click, host, load_module, wait_until  # noqa: F401
from Testing.system_libraries import missing_packages

TESTING = Path(__file__).resolve().parents[1]
sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != TESTING]
"""pytest enters the folder Testing for its conftest.py; slicer-core would then take Testing/slicer for a part of its
package ``slicer`` and import this file and all tests as its modules."""

SAMPLE = Path(__file__).parent / "sample_module" / "HostSample.py"


def why_not() -> str:
    """What this machine lacks, empty if nothing."""
    packages = [name for name in ("slicer", "PySide6") if importlib.util.find_spec(name) is None]
    if packages:
        return "Python packages are missing, run: pip install -r requirements-test.txt"
    libraries = missing_packages() if sys.platform.startswith("linux") else []
    return f"system libraries are missing, run: sudo apt install {' '.join(libraries)}" if libraries else ""


REASON = why_not()


class UnavailableModule(pytest.Module):
    """A test file that is not imported: skipped with the reason, or failed in continuous integration."""

    def collect(self) -> Iterator[pytest.Item]:
        if os.environ.get("CI"):
            raise self.CollectError(REASON)
        raise pytest.skip.Exception(REASON, allow_module_level=True)


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    return UnavailableModule.from_parent(parent, path=module_path) if REASON else None


@pytest.fixture(scope="session")
def sample() -> Path:
    """A scripted module in the form of Slicer's template."""
    return SAMPLE
