"""3D Slicer module AutoFuse Registration: deformable registration of two volumes; the code is in its package."""

import importlib.util
import sys
from pathlib import Path

if importlib.util.find_spec("autofuse_engine") is None:  # a source checkout: the engine lies beside the module's folder
    sys.path.append(str(Path(__file__).resolve().parents[1]))

import slicer
from AutoFuseRegistrationLib.Logic import AutoFuseRegistrationLogic
from AutoFuseRegistrationLib.SampleData import registerSampleData
from AutoFuseRegistrationLib.Tests import AutoFuseRegistrationTest
from AutoFuseRegistrationLib.Widget import AutoFuseRegistrationWidget
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import ScriptedLoadableModule

__all__ = [
    "AutoFuseRegistration",
    "AutoFuseRegistrationLogic",
    "AutoFuseRegistrationTest",
    "AutoFuseRegistrationWidget",
]


class AutoFuseRegistration(ScriptedLoadableModule):
    """What Slicer shows of the module before it is opened."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("AutoFuse Registration")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Registration")]
        self.parent.dependencies = []
        self.parent.contributors = ["AutoFuse developers"]
        self.parent.helpText = _(
            "Deformable registration of two volumes. Choose the fixed and the moving volume and press Register: the "
            "result is a smooth transform with its inverse, the warped volume, and pictures that show whether to "
            "trust it. Segmentations are warped along and compared by the names of their segments. "
            "A tutorial and help with errors, by their codes, are in the README of the extension. "
            "<b>Not for clinical use.</b>"
        )
        self.parent.acknowledgementText = _(
            "An independent implementation of AutoFuse: Meng M, Fulham M, Feng D, Bi L, Kim J. AutoFuse: Automatic "
            "Fusion Networks for Deformable Medical Image Registration. Pattern Recognition, 2024 (arXiv:2309.05271). "
            "Licence: Apache-2.0. Models have licences of their own, which the panel shows."
        )
        slicer.app.connect("startupCompleted()", registerSampleData)
