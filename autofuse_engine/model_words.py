"""Words in the names of images, files and DICOM tags that tell modality and body part. Standard library only."""

from __future__ import annotations

import re
from collections.abc import Mapping

_BODY_PARTS: Mapping[str, tuple[str, ...]] = {
    "hippocampus": ("hippocampus", "hippocampal", "hippo"),
    "brain": ("brain", "head", "skull", "cranium", "cerebrum", "cerebral", "neuro", "gehirn", "kopf", "schaedel"),
    "neck": ("neck", "hals"),
    "chest": ("chest", "thorax", "lung", "lungs", "lunge"),
    "heart": ("heart", "cardiac", "herz", "myocardium"),
    "breast": ("breast", "mamma"),
    "abdomen": ("abdomen", "abdominal", "liver", "kidney", "kidneys", "pancreas", "spleen", "leber"),
    "pelvis": ("pelvis", "prostate", "bladder", "uterus", "becken"),
    "spine": ("spine", "vertebra", "vertebrae", "lumbar", "cspine", "lspine"),
    "limb": ("knee", "shoulder", "ankle", "wrist", "femur", "knie"),
}
_INSIDE: Mapping[str, str] = {"hippocampus": "brain", "heart": "chest"}
_MODALITIES: Mapping[str, tuple[str, ...]] = {
    "CT": ("ct", "cta", "cbct"),
    "PT": ("pet", "suv", "fdg"),
    "US": ("ultrasound", "sonography"),
    "MR": ("mr", "mri", "mra", "dwi", "adc", "swi"),
    "MR T1": ("t1", "t1w", "mprage", "mp2rage", "spgr"),
    "MR T2": ("t2", "t2w", "flair", "pdw"),
}


def words_of(text: str) -> frozenset[str]:
    """The words of a name in lower case, without the numbers at their ends: ``MRBrainTumor1`` has ``brain``."""
    parts = re.findall(r"[A-Z]+(?![a-z])\d*w?|[A-Z]?[a-z]+\d*w?|\d+", text)
    lower = [part.lower() for part in parts]
    return frozenset(lower) | {part.rstrip("0123456789") for part in lower} | set(_runs(text))


def body_parts(text: str) -> frozenset[str]:
    """Standard words of the body parts that a text names; empty where it names none."""
    words = words_of(text)
    return frozenset(part for part, names in _BODY_PARTS.items() if words & set(names))


def modalities(text: str) -> frozenset[str]:
    """Standard words of the modalities that a text names, such as ``CT`` or ``MR T1``; empty where it names none.

    Words that mean other things too, such as ``pt`` and ``us``, are left out on purpose.
    """
    words = words_of(text)
    found = {kind for kind, names in _MODALITIES.items() if words & set(names)}
    return frozenset(found - {"MR"} if found & {"MR T1", "MR T2"} else found)


def contradicts_body_part(text: str, body_part: str) -> bool:
    """Whether a name tells of another body part than a model's; a part and the whole around it go together."""
    told, known = body_parts(text), body_parts(body_part)
    if not told or not known:
        return False
    return not any(a == b or _INSIDE.get(a) == b or _INSIDE.get(b) == a for a in told for b in known)


def contradicts_modality(text: str, modality: str) -> bool:
    """Whether a name tells of another modality than a model's; ``any`` goes with each, ``MR`` with every MR."""
    told, known = modalities(text), modalities(modality)
    if not told or not known:
        return False
    return not any(a == b or a.startswith(f"{b} ") or b.startswith(f"{a} ") for a in told for b in known)


def _runs(text: str) -> list[str]:
    """Letters and digits between separators, as in ``T1w``; in lower case."""
    return [run.lower() for run in re.split(r"[^A-Za-z0-9]+", text) if run]
