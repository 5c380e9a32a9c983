"""Every choice of a user or programmer: frozen, validated, stored as JSON. Defaults stand here and nowhere else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, TypeVar

Similarity = Literal["lncc", "mse", "mind"]
InitialAlignment = Literal["none", "centers", "moments", "rigid", "affine", "matrix", "transform"]
SegmentationCode = Literal["expected", "hard"]
SEGMENTATION_CODES: tuple[SegmentationCode, ...] = ("expected", "hard")
NetworkKind = Literal[
    "autofuse",
    "autofuse-trans",
    "early-fuse",
    "mid-fuse",
    "late-fuse",
    "voxelmorph-1",
    "voxelmorph-2",
    "voxelmorph-diff",
]
NETWORK_KINDS: tuple[NetworkKind, ...] = (
    "autofuse",
    "autofuse-trans",
    "early-fuse",
    "mid-fuse",
    "late-fuse",
    "voxelmorph-1",
    "voxelmorph-2",
    "voxelmorph-diff",
)
SIMILARITIES: tuple[Similarity, ...] = ("lncc", "mse", "mind")
INITIAL_ALIGNMENTS: tuple[InitialAlignment, ...] = (
    "none",
    "centers",
    "moments",
    "rigid",
    "affine",
    "matrix",
    "transform",
)
AUTOMATIC_MODEL, NO_MODEL = "auto", "none"
"""In place of a model's name: the one that suits the images best, by the cards of the models at hand; or none."""

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
    """Architecture of a network; stored whole in every checkpoint. docs/networks.md tells the kinds.

    ``channels`` is the width of the first stage (for ``autofuse`` and ``autofuse-trans``: c = 16 in the paper, the
    pair path has 2c). ``large_kernels`` switches the ELK part of each fusion. ``align_corners`` selects the geometry
    of the trilinear upsampling: True is the geometry of the official release, False is centre-aligned like the
    pooling. ``field`` is what the network predicts: a ``velocity``, integrated in ``integration_steps`` squarings,
    or the ``displacement`` itself.

    Of ``autofuse`` and ``autofuse-trans`` only: ``classes`` makes the network semi-supervised: it segments both
    images into that many classes, background counted, and 0 means that it does not. ``segmentation_code`` says how a
    segmentation reaches the pair path: as the ``expected`` label, or as the ``hard``, most probable one, which passes
    no gradient; without ``input_fusion`` it does not. ``fusion`` is how the features of both paths meet: by the
    ``gate``, as a ``sum``, or not at all (``none``). ``varying_regularity`` adds a head that predicts how much
    smoothness counts at each voxel, ``conditional`` lets the weights of these terms be chosen at prediction.
    ``small_windows`` is how Swin windows that shrank to a small map read their table of position biases: by the true
    ``offset``, or by the number of the ``token`` as the official release does.
    """

    kind: NetworkKind = "autofuse"
    channels: int = 16
    large_kernels: bool = True
    align_corners: bool = True
    integration_steps: int = 7
    classes: int = 0
    segmentation_code: SegmentationCode = "expected"
    input_fusion: bool = True
    fusion: Literal["gate", "sum", "none"] = "gate"
    field: Literal["velocity", "displacement"] = "velocity"
    varying_regularity: bool = False
    conditional: bool = False
    small_windows: Literal["offset", "token"] = "offset"

    def __post_init__(self) -> None:
        _require(self.kind in NETWORK_KINDS, f"kind is one of {', '.join(NETWORK_KINDS)}", self.kind)
        channels, steps = self.channels, self.integration_steps
        _require(type(channels) is int and channels >= 1, "channels is a whole number of at least 1", channels)
        _require(type(steps) is int and 0 <= steps <= 12, "integration_steps lies in 0..12", steps)
        classes = self.classes
        _require(type(classes) is int and (classes == 0 or 2 <= classes <= 255), "classes is 0 or 2..255", classes)
        code = self.segmentation_code
        _require(code in SEGMENTATION_CODES, f"segmentation_code is one of {', '.join(SEGMENTATION_CODES)}", code)
        for name in ("large_kernels", "align_corners", "input_fusion", "varying_regularity", "conditional"):
            _require(type(getattr(self, name)) is bool, f"{name} is true or false", getattr(self, name))
        _require(self.fusion in ("gate", "sum", "none"), "fusion is gate, sum or none", self.fusion)
        _require(self.field in ("velocity", "displacement"), "field is velocity or displacement", self.field)
        _require(self.small_windows in ("offset", "token"), "small_windows is offset or token", self.small_windows)
        self._require_what_goes_together()

    def _require_what_goes_together(self) -> None:
        if self.kind not in ("autofuse", "autofuse-trans"):
            for name in ("classes", "segmentation_code", "input_fusion", "fusion", "varying_regularity", "conditional"):
                default, value = type(self).__dataclass_fields__[name].default, getattr(self, name)
                _require(value == default, f"{name} of {self.kind} is {default!r}", value)
        if self.kind.startswith("voxelmorph"):
            field = "velocity" if self.kind == "voxelmorph-diff" else "displacement"
            _require(self.field == field, f"field of {self.kind} is {field!r}", self.field)
            _require(self.channels % 4 == 0, f"channels of {self.kind} is a multiple of 4", self.channels)
        if self.kind == "autofuse-trans":
            _require(self.channels % 2 == 0, "channels of autofuse-trans is even", self.channels)
        if self.fusion == "none":
            _require(self.classes > 0, "without fusion of features, classes is at least 2", self.classes)
        if self.classes == 0:
            _require(self.input_fusion, "input_fusion without classes is true", self.input_fusion)

    @property
    def size_multiple(self) -> int:
        """Every side of the input is a multiple of this."""
        return 16


NETWORKS: Mapping[str, NetworkConfig] = {
    "autofuse": NetworkConfig(),
    "autofuse-without-elk": NetworkConfig(large_kernels=False),
    "autofuse-semi": NetworkConfig(classes=4),
    "autofuse-disp": NetworkConfig(field="displacement"),
    "autofuse-varying": NetworkConfig(field="displacement", varying_regularity=True),
    "autofuse-conditional": NetworkConfig(field="displacement", varying_regularity=True, conditional=True),
    "autofuse-trans": NetworkConfig(kind="autofuse-trans"),
    "autofuse-trans-semi": NetworkConfig(kind="autofuse-trans", classes=4),
    "early-fuse": NetworkConfig(kind="early-fuse", channels=45),
    "mid-fuse": NetworkConfig(kind="mid-fuse", channels=28),
    "late-fuse": NetworkConfig(kind="late-fuse", channels=44),
    "multi-fuse": NetworkConfig(channels=19, large_kernels=False, fusion="sum"),
    "voxelmorph-1": NetworkConfig(kind="voxelmorph-1", field="displacement"),
    "voxelmorph-2": NetworkConfig(kind="voxelmorph-2", field="displacement"),
    "voxelmorph-diff": NetworkConfig(kind="voxelmorph-diff"),
}
"""Every network by the name under which ``autofuse networks`` lists it."""


@dataclass(frozen=True, kw_only=True)
class RefinementConfig(Config):
    """How the velocity field of one pair is optimised; see ``refinement.refine``.

    ``steps`` is the most at each level; at the finest one ``finest_steps``, None for as many. ``learning_rate`` is the
    length of Adam's first steps in voxels of the level, ``smoothing_vox`` the standard deviation of the Gaussian that
    every update passes through. ``radius`` and ``coarse_radius`` belong to the windows of local NCC at the finest and
    at the other levels. ``smoothness`` weighs the diffusion energy of the velocity, ``folding`` the Jacobian
    determinants below ``folding_margin``. ``labels`` weighs how far labels that guide disagree, where there are any.
    """

    similarity: Similarity = "lncc"
    steps: int = 40
    finest_steps: int | None = None
    learning_rate: float = 0.3
    smoothing_vox: float = 1.0
    radius: int = 3
    coarse_radius: int = 2
    smoothness: float = 1.0
    folding: float = 10.0
    folding_margin: float = 0.1
    labels: float = 2.0
    coarsest_side: int = 16

    def __post_init__(self) -> None:
        _require(self.similarity in SIMILARITIES, f"similarity is one of {', '.join(SIMILARITIES)}", self.similarity)
        _require(self.steps >= 0, "steps is at least 0", self.steps)
        finest = self.finest_steps
        _require(finest is None or finest >= 0, "finest_steps is at least 0", finest)
        _require(self.learning_rate > 0, "learning_rate is above 0", self.learning_rate)
        _require(min(self.radius, self.coarse_radius) >= 1, "radii are at least 1", (self.radius, self.coarse_radius))
        weights = (self.smoothing_vox, self.smoothness, self.folding, self.labels)
        _require(min(weights) >= 0, "smoothing_vox, smoothness, folding and labels are at least 0", weights)
        _require(self.coarsest_side >= 8, "coarsest_side is at least 8", self.coarsest_side)

    def steps_at(self, factor: int) -> int:
        """The most steps at the level that is ``factor`` times coarser than the working grid."""
        return self.steps if factor > 1 or self.finest_steps is None else self.finest_steps


@dataclass(frozen=True, kw_only=True)
class RegistrationConfig(Config):
    """What to do with one pair; stored whole in the provenance of each result.

    ``model`` is a name of the catalog, the path of a ``.safetensors`` file, ``none``, or ``auto``: the installed model
    whose card fits the images best, or none if none does; a result's provenance holds the name that this came to.
    ``refinement_steps`` None means the default of the mode (with or without a model), 0 switches refinement off; the
    number counts at each level of resolution. ``spacing_mm`` None means the model's, or without model one that suits
    the fixed image. ``initial_matrix_ras`` (4x4, RAS, mm; takes points of the fixed image to the moving image) goes
    with ``initial="matrix"``; with ``"transform"`` a whole transform is handed to the call. ``smoothness`` multiplies
    the weight of the smoothness term of the refinement: above 1 the transform is stiffer, below 1 it follows the images
    more closely. ``samples`` draws of the posterior give the uncertainty, where the model has one. ``passes`` is how
    often the model looks at the pair, 1 to 4: from the second time on at the moving image as it was warped so far;
    without a model there is nothing to repeat. ``label_weight`` says how much it counts in the refinement that labels
    of both images lie on each other, 0 leaves them out; None means as much as the model's card says for those that it
    predicts, and 2 for those that guide. ``label_alignment`` says whether labels that the model sees in both images
    improve the initial alignment before anything else: None does so where they count in the refinement and the
    alignment was searched for (``"rigid"``, ``"affine"``) without masks, True also where a matrix was given.
    """

    model: str = AUTOMATIC_MODEL
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
    passes: int = 1
    label_weight: float | None = None
    label_alignment: bool | None = None

    def __post_init__(self) -> None:
        weight = self.label_weight
        _require(
            self.label_alignment in (None, True, False), "label_alignment is true, false or null", self.label_alignment
        )
        _require(weight is None or 0 <= weight <= 100, "label_weight is 0..100", weight)
        _require(self.initial in INITIAL_ALIGNMENTS, f"initial is one of {', '.join(INITIAL_ALIGNMENTS)}", self.initial)
        _require(self.similarity in SIMILARITIES, f"similarity is one of {', '.join(SIMILARITIES)}", self.similarity)
        steps = self.refinement_steps
        _require(steps is None or steps >= 0, "refinement_steps is at least 0", steps)
        _require(0.1 <= self.smoothness <= 10, "smoothness is 0.1..10", self.smoothness)
        _require(self.spacing_mm is None or 0.05 <= self.spacing_mm <= 50, "spacing_mm is 0.05..50", self.spacing_mm)
        _require(self.samples >= 0, "samples is at least 0", self.samples)
        _require(self.precision in ("float32", "bfloat16"), "precision is float32 or bfloat16", self.precision)
        passes = self.passes
        _require(type(passes) is int and 1 <= passes <= 4, "passes is a whole number of 1..4", passes)
        _require(passes == 1 or self.model != "none", "passes above 1 need a model", passes)
        matrix = self.initial_matrix_ras
        _require(
            (matrix is not None) == (self.initial == "matrix"), "initial_matrix_ras goes with initial 'matrix'", matrix
        )
        _require(matrix is None or [len(row) for row in matrix] == [4] * 4, "initial_matrix_ras is 4x4", matrix)
