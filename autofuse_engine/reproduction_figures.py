"""Figures that the AutoFuse paper reports, to stand beside those of a reproduction. Other data, other preprocessing:
they show which order to expect, not which values.

Meng M, Bi L, Fulham M, Feng D, Kim J. AutoFuse: Automatic fusion networks for deformable medical image registration.
Pattern Recognition, 2024. Mean Dice in percent of brains (Table 1: OASIS, Mindboggle, Buckner), hearts (ACDC), and of
the comparison of fusions (Table 3).
"""

from __future__ import annotations

from collections.abc import Mapping

CITATION = (
    "Meng M, Bi L, Fulham M, Feng D, Kim J. AutoFuse: Automatic fusion networks for deformable medical image "
    "registration. Pattern Recognition, 2024"
)
COLUMNS = ("OASIS", "Mindboggle", "Buckner", "ACDC", "Table 3")
REPORTED_DICE_PERCENT: Mapping[str, Mapping[str, float]] = {
    "affine": {"OASIS": 61.0, "Mindboggle": 34.7, "Buckner": 40.6, "ACDC": 59.0},
    "syn": {"OASIS": 76.2, "Mindboggle": 52.8, "Buckner": 56.4, "ACDC": 74.7},
    "voxelmorph-2": {"OASIS": 77.3, "Mindboggle": 55.2, "Buckner": 58.9, "ACDC": 75.4},
    "voxelmorph-diff": {"OASIS": 78.4, "Mindboggle": 52.8, "Buckner": 57.4, "ACDC": 77.3},
    "autofuse": {"OASIS": 80.8, "Mindboggle": 59.0, "Buckner": 63.5, "ACDC": 79.6},
    "autofuse-trans": {"OASIS": 81.3, "Mindboggle": 59.8, "Buckner": 64.1, "ACDC": 80.2},
    "autofuse-semi": {"OASIS": 84.5, "Mindboggle": 60.2, "Buckner": 65.0, "ACDC": 85.7},
    "early-fuse": {"Table 3": 78.2},
    "mid-fuse": {"Table 3": 78.3},
    "late-fuse": {"Table 3": 77.6},
    "multi-fuse": {"Table 3": 78.6},
    "autofuse-without-elk": {"Table 3": 80.0},
}
"""By the name of our method. The paper does not say which size of VoxelMorph it trained: the usual one is taken."""
OTHERS_DICE_PERCENT: Mapping[str, Mapping[str, float]] = {
    "NiftyReg": {"OASIS": 78.7, "Mindboggle": 56.7, "Buckner": 61.0},
    "LKU-Net": {"OASIS": 79.3, "Mindboggle": 57.4, "Buckner": 61.2},
    "TransMorph": {"OASIS": 79.2, "Mindboggle": 57.1, "Buckner": 60.8},
    "TransMatch": {"OASIS": 79.8, "Mindboggle": 57.6, "Buckner": 62.0},
    "AutoFuse-Trans, semi-supervised": {"OASIS": 84.7, "Mindboggle": 60.8, "Buckner": 65.4, "ACDC": 86.2},
}
"""Methods of the paper's tables that a reproduction does not run."""
