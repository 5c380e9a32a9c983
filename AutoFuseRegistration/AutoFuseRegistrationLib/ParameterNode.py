"""Every choice of the registration panel, stored in the scene."""

import enum
from typing import Annotated

from slicer import (
    vtkMRMLGridTransformNode,
    vtkMRMLLabelMapVolumeNode,
    vtkMRMLScalarVolumeNode,
    vtkMRMLSegmentationNode,
    vtkMRMLTableNode,
    vtkMRMLTransformNode,
)
from slicer.i18n import tr as _
from slicer.parameterNodeWrapper import Decimals, SingleStep, WithinRange, parameterNodeWrapper

from autofuse_engine.configs import RegistrationConfig

DEFAULTS = RegistrationConfig()
AUTOMATIC_STEPS = -1
AUTOMATIC_SPACING = 0.0


class InitialAlignment(enum.Enum):
    """Where the search starts; the values are those of the engine, but that of the last one depends on the node."""

    NONE = "none"
    CENTERS = "centers"
    MOMENTS = "moments"
    RIGID = "rigid"
    AFFINE = "affine"
    TRANSFORM = "matrix"

    def label(self) -> str:
        """Text in the panel."""
        return {
            InitialAlignment.NONE: _("None: positions are right"),
            InitialAlignment.CENTERS: _("Centers of the images"),
            InitialAlignment.MOMENTS: _("Centers and axes of mass"),
            InitialAlignment.RIGID: _("Rigid search"),
            InitialAlignment.AFFINE: _("Affine search"),
            InitialAlignment.TRANSFORM: _("A transform of the scene"),
        }[self]


class Similarity(enum.Enum):
    """What makes two images alike; the values are those of the engine."""

    LOCAL_NCC = "lncc"
    MEAN_SQUARES = "mse"
    MIND = "mind"

    def label(self) -> str:
        """Text in the panel."""
        return {
            Similarity.LOCAL_NCC: _("Local correlation: same modality"),
            Similarity.MEAN_SQUARES: _("Mean squares: same intensities"),
            Similarity.MIND: _("MIND: different modalities"),
        }[self]


@parameterNodeWrapper
class AutoFuseRegistrationParameterNode:
    """Inputs, choices and output nodes of one registration.

    Output nodes that are None are made when the result arrives. ``refinementSteps`` -1 and ``spacingMm`` 0 leave the
    choice to the engine. ``model`` is a name of the catalog, "auto" or "none"; ``device`` is "auto", "cpu" or "cuda:N".
    A mask is a labelmap volume, or the segment ``...MaskSegmentId`` of a segmentation. ``guideBySegmentations`` is
    off until somebody switches it on, as the Dice of segments that guide judges nothing; it counts where segments can
    guide.
    """

    fixedVolume: vtkMRMLScalarVolumeNode
    movingVolume: vtkMRMLScalarVolumeNode
    fixedSegmentation: vtkMRMLSegmentationNode
    movingSegmentation: vtkMRMLSegmentationNode

    fixedMask: vtkMRMLLabelMapVolumeNode | vtkMRMLSegmentationNode | None
    movingMask: vtkMRMLLabelMapVolumeNode | vtkMRMLSegmentationNode | None
    fixedMaskSegmentId: str
    movingMaskSegmentId: str

    model: str = DEFAULTS.model
    guideBySegmentations: bool = False
    initialAlignment: InitialAlignment = InitialAlignment(DEFAULTS.initial)
    initialTransform: vtkMRMLTransformNode
    similarity: Similarity = Similarity(DEFAULTS.similarity)
    refinementSteps: Annotated[int, WithinRange(AUTOMATIC_STEPS, 500)] = AUTOMATIC_STEPS
    smoothness: Annotated[float, WithinRange(0.1, 10.0), Decimals(2), SingleStep(0.1)] = DEFAULTS.smoothness
    spacingMm: Annotated[float, WithinRange(AUTOMATIC_SPACING, 20.0), Decimals(2), SingleStep(0.25)] = AUTOMATIC_SPACING
    samples: Annotated[int, WithinRange(0, 64)] = DEFAULTS.samples
    device: str = DEFAULTS.device
    seed: Annotated[int, WithinRange(0, 2147483647)] = DEFAULTS.seed

    transform: vtkMRMLGridTransformNode
    inverseTransform: vtkMRMLGridTransformNode
    warpedVolume: vtkMRMLScalarVolumeNode
    warpedSegmentation: vtkMRMLSegmentationNode
    jacobianVolume: vtkMRMLScalarVolumeNode
    magnitudeVolume: vtkMRMLScalarVolumeNode
    uncertaintyVolume: vtkMRMLScalarVolumeNode
    regularityVolume: vtkMRMLScalarVolumeNode
    resultsTable: vtkMRMLTableNode
    wantInverse: bool = True
    wantSegmentation: bool = True
    wantJacobian: bool = True
    wantMagnitude: bool = True
    wantUncertainty: bool = True
    wantRegularity: bool = True
    wantTable: bool = True
    applyToMoving: bool = False
