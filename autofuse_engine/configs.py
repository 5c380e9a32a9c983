"""Every choice of a user or programmer: frozen, validated, stored as JSON. Defaults stand here and nowhere else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, TypeVar

Similarity = Literal["lncc", "mse", "mind"]
InitialAlignment = Literal["none", "centers", "moments", "rigid", "affine", "matrix"]
SegmentationCode = Literal["expected", "hard"]
SEGMENTATION_CODES: tuple[SegmentationCode, ...] = ("expected", "hard")
SIMILARITIES: tuple[Similarity, ...] = ("lncc", "mse", "mind")
INITIAL_ALIGNMENTS: tuple[InitialAlignment, ...] = ("none", "centers", "moments", "rigid", "affine", "matrix")
Matrix4 = tuple[tuple[float, float, float, float], ...]
ConfigType = TypeVar("ConfigType", bound="Config")


def _require(condition: bool, rule: str, received: object) -> None:
    if not condition:
        raise ValueError(f"{rule}, received {received!r}")


@dataclass(frozen=True, kw_only=True)
class Config:
    """Base of all configurations: JSON in and out, unknown fields refused."""

    def to_dict(self) -> dict[str, Any]:
        """Plain dictionary that ``json`` can write; :meth:`from_dict` reads it back."""
        return asdict(self)

    @classmethod
    def from_dict(cls: type[ConfigType], content: Mapping[str, Any]) -> ConfigType:
        """Build from a dictionary.

        Raises:
            ValueError: if a field is unknown or a value breaks its rule.
        """
        known = {item.name for item in fields(cls)}
        unknown = sorted(set(content) - known)
        _require(not unknown, f"{cls.__name__} knows the fields {', '.join(sorted(known))}", unknown)
        return cls(**{name: _frozen(value) for name, value in content.items()})


def _frozen(value: Any) -> Any:
    return tuple(_frozen(item) for item in value) if isinstance(value, (list, tuple)) else value


@dataclass(frozen=True, kw_only=True)
class NetworkConfig(Config):
    """Architecture of a network; stored whole in every checkpoint.

    ``channels`` is the width of the single-image path at level 0 (c = 16 in the paper, the pair path has 2c).
    ``large_kernels`` switches the ELK part of each fusion gate. ``align_corners`` selects the geometry of the
    trilinear upsampling: True is the geometry of the official release, False is centre-aligned like the pooling.
    ``classes`` makes the network semi-supervised: it segments both images into that many classes, background counted,
    and 0 means that it does not. ``segmentation_code`` says how a segmentation reaches the pair path: as the
    ``expected`` label, or as the ``hard``, most probable one, which passes no gradient.
    """

    kind: Literal["autofuse"] = "autofuse"
    channels: int = 16
    large_kernels: bool = True
    align_corners: bool = True
    integration_steps: int = 7
    classes: int = 0
    segmentation_code: SegmentationCode = "expected"

    def __post_init__(self) -> None:
        _require(self.kind == "autofuse", "kind is 'autofuse'", self.kind)
        channels, steps = self.channels, self.integration_steps
        _require(type(channels) is int and channels >= 1, "channels is a whole number of at least 1", channels)
        _require(type(steps) is int and 0 <= steps <= 12, "integration_steps lies in 0..12", steps)
        classes = self.classes
        _require(type(classes) is int and (classes == 0 or 2 <= classes <= 255), "classes is 0 or 2..255", classes)
        code = self.segmentation_code
        _require(code in SEGMENTATION_CODES, f"segmentation_code is one of {', '.join(SEGMENTATION_CODES)}", code)
        for name in ("large_kernels", "align_corners"):
            _require(type(getattr(self, name)) is bool, f"{name} is true or false", getattr(self, name))

    @property
    def size_multiple(self) -> int:
        """Every side of the input is a multiple of this."""
        return 16


NETWORKS: Mapping[str, NetworkConfig] = {
    "autofuse": NetworkConfig(),
    "autofuse-without-elk": NetworkConfig(large_kernels=False),
    "autofuse-semi": NetworkConfig(classes=4),
}
"""Every network by the name under which ``autofuse networks`` lists it."""


@dataclass(frozen=True, kw_only=True)
class RefinementConfig(Config):
    """How the velocity field of one pair is optimised; see ``refinement.refine``.

    ``steps`` is the most at each level. ``learning_rate`` is the length of Adam's first steps in voxels of the level,
    ``smoothing_vox`` the standard deviation of the Gaussian that every update passes through. ``radius`` and
    ``coarse_radius`` belong to the windows of local NCC at the finest and at the other levels. ``smoothness`` weighs
    the diffusion energy of the velocity, ``folding`` the Jacobian determinants below ``folding_margin``.
    """

    similarity: Similarity = "lncc"
    steps: int = 40
    learning_rate: float = 0.3
    smoothing_vox: float = 1.0
    radius: int = 3
    coarse_radius: int = 2
    smoothness: float = 1.0
    folding: float = 10.0
    folding_margin: float = 0.1
    coarsest_side: int = 16

    def __post_init__(self) -> None:
        _require(self.similarity in SIMILARITIES, f"similarity is one of {', '.join(SIMILARITIES)}", self.similarity)
        _require(self.steps >= 0, "steps is at least 0", self.steps)
        _require(self.learning_rate > 0, "learning_rate is above 0", self.learning_rate)
        _require(min(self.radius, self.coarse_radius) >= 1, "radii are at least 1", (self.radius, self.coarse_radius))
        weights = (self.smoothing_vox, self.smoothness, self.folding)
        _require(min(weights) >= 0, "smoothing_vox, smoothness and folding are at least 0", weights)
        _require(self.coarsest_side >= 8, "coarsest_side is at least 8", self.coarsest_side)


@dataclass(frozen=True, kw_only=True)
class RegistrationConfig(Config):
    """What to do with one pair; stored whole in the provenance of each result.

    ``model`` is a name of the catalog, the path of a ``.safetensors`` file, or ``none``. ``refinement_steps`` None
    means the default of the mode (with or without a model), 0 switches refinement off; the number counts at each
    level of resolution. ``spacing_mm`` None means the model's, or without model one that suits the fixed
    image. ``initial_matrix_ras`` (4x4, RAS, mm; takes points of the fixed image to the moving image) goes with
    ``initial="matrix"``. ``smoothness`` multiplies the weight of the smoothness term of the refinement: above 1 the
    transform is stiffer, below 1 it follows the images more closely. ``samples`` draws of the posterior give the
    uncertainty, where the model has one.
    """

    model: str = "none"
    initial: InitialAlignment = "affine"
    initial_matrix_ras: Matrix4 | None = None
    similarity: Similarity = "lncc"
    refinement_steps: int | None = None
    smoothness: float = 1.0
    spacing_mm: float | None = None
    samples: int = 0
    device: str = "auto"
    precision: Literal["float32", "bfloat16"] = "float32"
    seed: int = 0

    def __post_init__(self) -> None:
        _require(self.initial in INITIAL_ALIGNMENTS, f"initial is one of {', '.join(INITIAL_ALIGNMENTS)}", self.initial)
        _require(self.similarity in SIMILARITIES, f"similarity is one of {', '.join(SIMILARITIES)}", self.similarity)
        steps = self.refinement_steps
        _require(steps is None or steps >= 0, "refinement_steps is at least 0", steps)
        _require(0.1 <= self.smoothness <= 10, "smoothness is 0.1..10", self.smoothness)
        _require(self.spacing_mm is None or 0.05 <= self.spacing_mm <= 50, "spacing_mm is 0.05..50", self.spacing_mm)
        _require(self.samples >= 0, "samples is at least 0", self.samples)
        _require(self.precision in ("float32", "bfloat16"), "precision is float32 or bfloat16", self.precision)
        matrix = self.initial_matrix_ras
        _require(
            (matrix is not None) == (self.initial == "matrix"), "initial_matrix_ras goes with initial 'matrix'", matrix
        )
        _require(matrix is None or [len(row) for row in matrix] == [4] * 4, "initial_matrix_ras is 4x4", matrix)
