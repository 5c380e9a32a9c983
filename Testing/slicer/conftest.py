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


ROOT = TESTING.parent


@pytest.fixture
def registration(host, load_module, monkeypatch):  # noqa: F811
    """The registration module, unmodified, over a fake worker: ``registration.worker``, ``.ui``, ``.widget``."""
    import slicer

    from AutoFuseLib.FakeWorker import FakeWorker
    from AutoFuseLib.WorkerProcess import SHARED_NAME

    worker = FakeWorker(tuple(PAIR_SHIFT_MM))
    monkeypatch.setattr(slicer.modules, SHARED_NAME, worker, raising=False)
    monkeypatch.setattr("AutoFuseLib.Dependencies.missing", lambda: [])
    return RegistrationPanel(host, load_module, worker)


PAIR_SHIFT_MM = (6.0, -6.0, 2.5)
PAIR_SPACING_MM = (2.0, 3.0, 2.5)


class RegistrationPanel:
    """The module's panel in the hands of a test."""

    def __init__(self, host, load_module, worker) -> None:  # noqa: F811
        self.host = host
        self.worker = worker
        self._load_module = load_module
        self.module = None

    def load(self):
        """Open the module."""
        self.module = self._load_module(ROOT / "AutoFuseRegistration" / "AutoFuseRegistration.py")
        return self.module

    @property
    def widget(self):
        return self.module.widget

    @property
    def ui(self):
        return self.module.widget.ui

    def makePair(self):
        """Two volumes that differ by ``PAIR_SHIFT_MM``, as the fake worker says."""
        import numpy as np
        import slicer.util

        random = np.random.default_rng(3)
        image = random.integers(0, 1000, (10, 12, 14)).astype(np.int16)
        nodes = []
        for name, array in (("CT day 1", image), ("CT day 8", np.roll(image, (1, -2, 3), (0, 1, 2)))):
            node = slicer.util.addVolumeFromArray(array, name=name)
            node.SetSpacing(*PAIR_SPACING_MM)
            node.SetOrigin(-10.0, 20.0, 5.0)
            nodes.append(node)
        return nodes

    def addSegmentation(self, volume, names, name):
        """A segmentation of boxes on the grid of a volume, one segment a name."""
        import numpy as np
        import slicer.util

        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
        node.CreateDefaultDisplayNodes()
        node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
        for number, segment in enumerate(names):
            array = np.zeros(slicer.util.arrayFromVolume(volume).shape, np.uint8)
            array[2 + number : 6 + number, 3:9, 4:10] = 1
            identifier = node.GetSegmentation().AddEmptySegment("", segment)
            slicer.util.updateSegmentBinaryLabelmapFromArray(array, node, identifier, volume)
        return node

    def register(self):
        """Click Register and wait until the worker has the job."""
        count = len(self.worker.jobs)
        self.host.click(self.ui.registerButton)
        self.host.waitUntil(lambda: len(self.worker.jobs) > count or not self.run.active)

    def finish(self, **report):
        """Let the worker answer, and wait for the nodes."""
        self.worker.succeed(**report)
        self.host.waitUntil(lambda: not self.run.active, 60)
        assert self.run.state.value == "done", self.run.error

    @property
    def run(self):
        return self.widget.logic.run

    @staticmethod
    def nodeNames():
        """Names of everything a user sees in the scene."""
        import slicer

        nodes = slicer.mrmlScene.GetNodes()
        every = [nodes.GetItemAsObject(index) for index in range(nodes.GetNumberOfItems())]
        return sorted(node.GetName() for node in every if not node.GetHideFromEditors() and node.GetSaveWithScene())
