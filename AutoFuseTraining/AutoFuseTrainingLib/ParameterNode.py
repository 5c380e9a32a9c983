"""Every choice of the training panel, stored in the scene; the defaults are the engine's."""

from typing import Annotated

from slicer.parameterNodeWrapper import Decimals, SingleStep, WithinRange, parameterNodeWrapper

from autofuse_engine.configs import NetworkConfig
from autofuse_engine.dataset_configs import PreparationConfig
from autofuse_engine.training_configs import AugmentationConfig, LossConfig, TrainingConfig
from autofuse_engine.training_presets import PRESETS, preset_config

FIRST_PRESET = next(iter(PRESETS))
DEFAULTS: TrainingConfig = preset_config(FIRST_PRESET, "none")
PREPARATION = PreparationConfig()
NETWORK = NetworkConfig()
LOSSES = LossConfig()
CHANGES = AugmentationConfig()
AUTOMATIC_SPACING = 0.0
NO_CLIPPING = 0.0
NO_MODEL = ""


@parameterNodeWrapper
class AutoFuseTrainingParameterNode:
    """Folders, and the choices of preparation and training.

    ``preparedSpacingMm`` 0 leaves the spacing to the engine, ``clipNorm`` 0 means no clipping. ``network`` is a name
    of the engine's list of networks, ``preset`` of its list of schedules, ``startModel`` of a model of the catalog, or
    empty; ``device`` is "auto", "cpu" or "cuda:N".
    """

    datasetFolder: str
    preparedFolder: str
    labelsFile: str
    alignment: str = PREPARATION.alignment
    preparedSpacingMm: Annotated[float, WithinRange(0.0, 20.0), Decimals(2), SingleStep(0.5)] = AUTOMATIC_SPACING
    validationPercent: Annotated[float, WithinRange(0.0, 90.0), Decimals(0)] = PREPARATION.validation_percent
    useWindow: bool = False
    windowLow: Annotated[float, WithinRange(-5000.0, 100000.0), Decimals(0), SingleStep(50.0)] = -1000.0
    windowHigh: Annotated[float, WithinRange(-5000.0, 100000.0), Decimals(0), SingleStep(50.0)] = 1000.0

    preset: str = FIRST_PRESET
    startModel: str = NO_MODEL
    network: str = NETWORK.kind
    channels: Annotated[int, WithinRange(1, 256)] = NETWORK.channels
    steps: Annotated[int, WithinRange(1, 10_000_000)] = DEFAULTS.steps
    batch: Annotated[int, WithinRange(1, 64)] = DEFAULTS.batch
    precision: str = DEFAULTS.precision
    device: str = DEFAULTS.device
    validationEvery: Annotated[int, WithinRange(1, 1_000_000)] = DEFAULTS.validation_every
    runFolder: str

    learningRate: Annotated[float, WithinRange(0.0, 0.1), Decimals(6), SingleStep(0.0001)] = PRESETS[
        FIRST_PRESET
    ].learning_rate
    similarity: str = LOSSES.similarity
    klWeight: Annotated[float, WithinRange(0.0, 1000.0), Decimals(4), SingleStep(0.01)] = LOSSES.kl
    klSmoothness: Annotated[float, WithinRange(0.001, 10_000.0), Decimals(3)] = LOSSES.kl_smoothness
    folding: Annotated[float, WithinRange(0.0, 100_000.0), Decimals(4)] = LOSSES.folding
    smoothness: Annotated[float, WithinRange(0.0, 1000.0), Decimals(3), SingleStep(0.1)] = LOSSES.smoothness
    segmentationWeight: Annotated[float, WithinRange(0.0, 1000.0), Decimals(2), SingleStep(0.1)] = LOSSES.segmentation
    fusionWeight: Annotated[float, WithinRange(0.0, 1000.0), Decimals(2), SingleStep(0.1)] = LOSSES.fusion
    rotationDegrees: Annotated[float, WithinRange(0.0, 180.0), Decimals(1)] = CHANGES.rotation_degrees
    scaling: Annotated[float, WithinRange(0.0, 0.5), Decimals(2), SingleStep(0.05)] = CHANGES.scaling
    translationVox: Annotated[float, WithinRange(0.0, 100.0), Decimals(1)] = CHANGES.translation_vox
    gamma: Annotated[float, WithinRange(0.0, 2.0), Decimals(2), SingleStep(0.05)] = CHANGES.gamma
    bias: Annotated[float, WithinRange(0.0, 0.9), Decimals(2), SingleStep(0.05)] = CHANGES.bias
    noise: Annotated[float, WithinRange(0.0, 1.0), Decimals(3), SingleStep(0.01)] = CHANGES.noise
    clipNorm: Annotated[float, WithinRange(0.0, 1_000_000.0), Decimals(2)] = NO_CLIPPING
    validationPairs: Annotated[int, WithinRange(1, 10_000)] = DEFAULTS.validation_pairs
    checkpointMinutes: Annotated[float, WithinRange(0.0, 10_000.0), Decimals(1)] = DEFAULTS.checkpoint_minutes
    seed: Annotated[int, WithinRange(0, 2_147_483_647)] = DEFAULTS.seed
    recompute: bool = DEFAULTS.recompute
    channelsLast: bool = DEFAULTS.channels_last
