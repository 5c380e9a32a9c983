"""How training images are disturbed, and how images are made from labelmaps: ranges of what is drawn at random."""

from __future__ import annotations

from dataclasses import dataclass

from autofuse_engine.configs import Config
from autofuse_engine.field_rules import number, require, truth, whole

_GEOMETRY = {"rotation_degrees": 180, "scaling": 0.5, "shear": 0.5, "translation_vox": 100, "warp_vox": 20}
_POSE = {"pose_rotation_degrees": 180, "pose_scaling": 0.5, "pose_translation_vox": 100}
_LOOK = {"gamma": 2, "bias": 0.9, "noise": 1, "slice_mm": 50, "rim_vox": 10, "crop": 0.5}


@dataclass(frozen=True, kw_only=True)
class AugmentationConfig(Config):
    """Random changes of each image, new at every step; all zero means none.

    Geometry, of image and labels alike: an affine move of its own for each image, up to ``rotation_degrees`` about each
    axis, ``scaling`` (0.1 is 10 %), ``shear`` (0.1 moves the far side by 10 % of the distance) and ``translation_vox``
    along each axis; then a smooth diffeomorphic bend, ``warp_vox`` being the standard deviation of its velocity. These
    moves are what the network has to undo: they belong to what an alignment leaves. ``pose_rotation_degrees``,
    ``pose_scaling`` and ``pose_translation_vox`` move both images of a pair alike: a patient who lies otherwise.

    Looks, which only the network sees (the loss compares the images as they were before): ``gamma`` (exponent up to
    ``exp(gamma)``), ``bias`` (a smooth factor up to ``1 + bias``), ``noise`` (standard deviation up to it), and, each
    of them for every second image: ``slice_mm`` (voxels as thick as up to this, along one axis or all), ``rim_vox``
    (the border of the foreground moves in and out by up to this, as skull stripping leaves it) and ``crop`` (up to
    this share of the field of view is cut off at one side).

    ``flips`` names the axes, of ``DHW``, along which both images of a pair are mirrored at random; leave out one that
    tells left from right labels.
    """

    rotation_degrees: float = 0.0
    scaling: float = 0.0
    shear: float = 0.0
    translation_vox: float = 0.0
    warp_vox: float = 0.0
    pose_rotation_degrees: float = 0.0
    pose_scaling: float = 0.0
    pose_translation_vox: float = 0.0
    gamma: float = 0.0
    bias: float = 0.0
    noise: float = 0.0
    slice_mm: float = 0.0
    rim_vox: float = 0.0
    crop: float = 0.0
    flips: str = ""

    def __post_init__(self) -> None:
        for name, most in (_GEOMETRY | _POSE | _LOOK).items():
            number(self, name, 0.0, most)
        flips = self.flips
        good = isinstance(flips, str) and set(flips) <= set("DHW") and len(set(flips)) == len(flips)
        require(good, "flips names axes of DHW, each once", flips)

    @property
    def moves(self) -> bool:
        """Whether images get an affine move of their own."""
        return max(self.rotation_degrees, self.scaling, self.shear, self.translation_vox) > 0

    @property
    def poses(self) -> bool:
        """Whether the images of a pair get an affine move in common."""
        return max(getattr(self, name) for name in _POSE) > 0


@dataclass(frozen=True, kw_only=True)
class SynthesisConfig(Config):
    """Images of random contrast made from labelmaps, for networks that know no modality.

    SynthMorph (Hoffmann et al., IEEE TMI 2021, arXiv 2004.10282) and SynthSeg (Billot et al., Medical Image Analysis
    2023, arXiv 2107.09559). A share ``probability`` of the pairs whose labels are known is synthesised: each label of
    each image gets a mean of its own in [0, 1] and a standard deviation up to ``sd``; then the image is blurred with up
    to ``blur_vox``. In a share ``alike`` of the images labels that look alike in the measured image look alike in the
    new one: their means go through a random curve, and then change by a tenth at most. ``background`` is the share of
    images whose background is not black. A share ``remapped`` of the images is made from the measured image instead:
    its foreground goes through a random curve, so that one tissue looks alike everywhere and details within a label
    stay, as between T1 and T2. In a share ``mixed`` of these pairs one image stays as it was measured. A share
    ``shapes`` shows no patients, but ``shape_labels`` random shapes bent by two random diffeomorphisms,
    ``shape_warp_vox`` being the standard deviation of their velocities. Bias field, gamma, noise, slice thickness, rim
    and crop are those of the augmentation, which comes after.

    The loss of these pairs compares labels (``losses.label_overlap``, which stages that learn the segmentation alone
    do without); with ``similarity`` the measured images too, where there are any.
    """

    probability: float = 1.0
    sd: float = 0.1
    blur_vox: float = 1.0
    background: float = 0.1
    alike: float = 0.5
    remapped: float = 0.3
    mixed: float = 0.2
    shapes: float = 0.0
    shape_labels: int = 16
    shape_warp_vox: float = 3.0
    similarity: bool = False

    def __post_init__(self) -> None:
        for name in ("probability", "sd", "alike", "background", "remapped", "mixed", "shapes"):
            number(self, name, 0.0, 1.0)
        number(self, "blur_vox", 0.0, 10.0)
        number(self, "shape_warp_vox", 0.0, 20.0)
        whole(self, "shape_labels", 2, 255)
        truth(self, "similarity")
