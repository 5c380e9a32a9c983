"""3D Slicer module AutoFuse Training: networks for registration from one's own images; the code is in its package."""

import importlib.util
import sys
from pathlib import Path

if importlib.util.find_spec("autofuse_engine") is None:  # a source checkout: the engine lies beside the module's folder
    sys.path.append(str(Path(__file__).resolve().parents[1]))

from AutoFuseTrainingLib.Logic import AutoFuseTrainingLogic
from AutoFuseTrainingLib.Tests import AutoFuseTrainingTest
from AutoFuseTrainingLib.Widget import AutoFuseTrainingWidget
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import ScriptedLoadableModule

__all__ = ["AutoFuseTraining", "AutoFuseTrainingLogic", "AutoFuseTrainingTest", "AutoFuseTrainingWidget"]


class AutoFuseTraining(ScriptedLoadableModule):
    """What Slicer shows of the module before it is opened."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("AutoFuse Training")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Registration")]
        self.parent.dependencies = []
        self.parent.contributors = ["AutoFuse developers"]
        self.parent.helpText = _(
            "Train a registration network on your own images. Check a folder of images, prepare it, choose a schedule "
            "and start: the training is a process of its own, which goes on when Slicer is closed and is found again "
            "when it is opened. The model that it makes is offered by the module AutoFuse Registration. "
            "Layouts of datasets and a tutorial are in the documentation of the extension. "
            "<b>Not for clinical use.</b>"
        )
        self.parent.acknowledgementText = _(
            "An independent implementation of AutoFuse: Meng M, Fulham M, Feng D, Bi L, Kim J. AutoFuse: Automatic "
            "Fusion Networks for Deformable Medical Image Registration. Pattern Recognition, 2024 (arXiv:2309.05271). "
            "Licence: Apache-2.0. Models that you train have the licence that their data allows."
        )
