"""The module's own test: without torch, GPU or network, in less than a minute; with the real worker when asked for.

In Slicer: Reload and Test, or ``slicer.selfTests["AutoFuseRegistration"]()``. The environment variable
``AUTOFUSE_TEST_WORKER=1`` adds the test with the real worker, for which torch must be installed.
"""

from __future__ import annotations

import os

import numpy as np
import slicer
import slicer.util
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleTest

from AutoFuseLib.FakeWorker import FakeWorker

from .Logic import AutoFuseRegistrationLogic
from .ParameterNode import InitialAlignment

SPACING_MM = (2.0, 3.0, 2.5)
SHAPE = (20, 24, 28)
SHIFT_VOXELS = (3, -2, 1)
"""Along i, j, k."""


class AutoFuseRegistrationTest(ScriptedLoadableModuleTest):
    """Registers a generated pair that differs by a known shift."""

    def setUp(self) -> None:
        """Begin with an empty scene."""
        slicer.mrmlScene.Clear()

    def runTest(self) -> None:
        """Run every test."""
        self.setUp()
        self.test_theMovingVolumeLandsOnTheFixedOne()
        if os.environ.get("AUTOFUSE_TEST_WORKER") == "1":
            self.setUp()
            self.test_theRealWorkerFindsTheShift()

    def test_theMovingVolumeLandsOnTheFixedOne(self) -> None:
        """All nodes appear, and the transform moves points by the known shift."""
        fixed, moving, shift = self.makePair()
        logic = AutoFuseRegistrationLogic(worker=FakeWorker(tuple(shift), automatic=True))
        result = logic.register(fixed, moving, applyToMoving=True)
        warped = slicer.util.arrayFromVolume(result.warped)
        inner = (slice(4, -4),) * 3
        expected = slicer.util.arrayFromVolume(fixed).astype(np.float32)
        assert np.array_equal(warped[inner], expected[inner])
        for node in (result.transform, result.inverse, result.jacobian, result.magnitude, result.table):
            assert node is not None
            assert node.GetScene() is slicer.mrmlScene
        self.assertMoves(result.transform, -shift)
        self.assertMoves(result.inverse, shift)
        assert moving.GetTransformNodeID() == result.transform.GetID()
        self.delayDisplay("The moving volume lies on the fixed one.")

    def test_theRealWorkerFindsTheShift(self) -> None:
        """The real worker aligns the pair to a tenth of a voxel on average."""
        fixed, moving, shift = self.makePair()
        result = AutoFuseRegistrationLogic().register(
            fixed, moving, initialAlignment=InitialAlignment.RIGID, refinementSteps=5
        )
        metrics = result.report["metrics"]
        assert metrics["after"]["ncc"] > 0.95 > metrics["before"]["ncc"]
        self.assertMoves(result.transform, -shift, toleranceMm=1.0)
        self.delayDisplay("The real worker found the shift.")

    @staticmethod
    def makePair() -> tuple:
        """A volume of blobs and the same one at another place, and that shift in mm (moving minus fixed)."""
        random = np.random.default_rng(7)
        voxels = np.moveaxis(np.indices(SHAPE), 0, -1)
        image = np.zeros(SHAPE)
        for _blob in range(9):
            center, size = random.uniform(0.3, 0.7, 3) * SHAPE, random.uniform(1.2, 2.2)
            image += random.uniform(0.4, 1.0) * np.exp(-((voxels - center) ** 2).sum(-1) / (2 * size**2))
        image = np.rint(image / image.max() * 1000).astype(np.int16)
        shifted = np.roll(image, SHIFT_VOXELS[::-1], (0, 1, 2))
        nodes = []
        for array, name in ((image, "Fixed"), (shifted, "Moving")):
            node = slicer.util.addVolumeFromArray(array, name=name)
            node.SetSpacing(*SPACING_MM)
            node.SetOrigin(-20.0, 15.0, 30.0)
            nodes.append(node)
        return nodes[0], nodes[1], np.array(SHIFT_VOXELS) * np.array(SPACING_MM)

    @staticmethod
    def assertMoves(transformNode, expectedMm, toleranceMm: float = 1e-3) -> None:
        """A node put under the transform moves by that much, in the middle of the pair."""
        middle = np.array([7.0, 50.0, 55.0])
        moved = np.array(transformNode.GetTransformToParent().TransformPoint(*middle))
        assert np.abs(moved - middle - expectedMm).max() < toleranceMm, (moved - middle, expectedMm)
