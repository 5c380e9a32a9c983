"""The pair of volumes of the tutorial, from Slicer's own sample data."""

from __future__ import annotations

from pathlib import Path

import slicer.util
from slicer.i18n import tr as _

CATEGORY = "AutoFuse"
_FILES = {
    "MRBrainTumor1": ("RegLib_C01_1.nrrd", "998cb522173839c78657f4bc0ea907cea09fd04e44601f17c82ea27927937b95"),
    "MRBrainTumor2": ("RegLib_C01_2.nrrd", "1a64f3f422eb3d1c9b093d1a18da354b13bcf307907c66317e2463ee530b7a97"),
}


def registerSampleData() -> None:
    """Offer the pair in Slicer's gallery of sample data; downloads and checks are Slicer's."""
    import SampleData

    SampleData.SampleDataLogic.registerCustomSampleDataSource(
        category=CATEGORY,
        sampleName="AutoFuseBrainTumorPair",
        sampleDescription=_("Brain with tumor at two times (2 MR volumes)"),
        thumbnailFileName=str(_thumbnail()),
        uris=[f"{slicer.util.TESTING_DATA_URL}SHA256/{checksum}" for _name, checksum in _FILES.values()],
        checksums=[f"SHA256:{checksum}" for _name, checksum in _FILES.values()],
        fileNames=[name for name, _checksum in _FILES.values()],
        nodeNames=list(_FILES),
    )


def _thumbnail() -> Path:
    return Path(__file__).resolve().parents[1] / "Resources" / "Icons" / "AutoFuseBrainTumorPair.png"
