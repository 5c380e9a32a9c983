"""What goes to ANTs and what comes back, with a stand-in for its package that warps by a field known in closed form."""

from __future__ import annotations

import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from autofuse_engine import peer_syn
from autofuse_engine.data.files import to_sitk
from autofuse_engine.data.transform_files import read_matrix
from autofuse_engine.data.volume import Volume, map_points
from autofuse_engine.errors import InputError
from autofuse_engine.peer_syn import SynMethod
from Testing.engine.peer_pairs import centres_of, egg_pair


class FakeAnts:
    """Keeps what it was given, and writes warps as ANTs does: displacement fields in LPS on the fixed grid."""

    def __init__(self, *, fails: bool = False, writes: bool = True) -> None:
        self.config = SimpleNamespace(_random_seed=None)
        self.fails, self.writes = fails, writes
        self.given: dict[str, Any] = {}

    def from_numpy(self, data: np.ndarray, **place: Any) -> sitk.Image:
        image = sitk.GetImageFromArray(np.ascontiguousarray(data.T))
        image.SetOrigin(place["origin"])
        image.SetSpacing(place["spacing"])
        image.SetDirection(place["direction"].ravel().tolist())
        return image

    def registration(self, fixed: sitk.Image, moving: sitk.Image, **options: Any) -> dict[str, Any]:
        self.given = {"fixed": fixed, "moving": moving, "seed": self.config._random_seed, **options}
        self.given["matrix_ras"] = read_matrix(options["initial_transform"][0])
        if self.fails:
            raise RuntimeError("Registration failed with error code 1")
        for name, sign in (("1Warp", 1.0), ("1InverseWarp", -1.0)) if self.writes else ():
            field = np.zeros((*fixed.GetSize()[::-1], 3)) + sign * np.array([1.0, 2.0, -3.0])
            image = sitk.GetImageFromArray(field, isVector=True)
            image.CopyInformation(fixed)
            sitk.WriteImage(image, f"{options['outprefix']}{name}.nii.gz")
        return {"warpedmovout": SimpleNamespace(numpy=lambda: sitk.GetArrayFromImage(fixed).T)}


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "Zwischenablage für ANTs"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    return place


def method_with(ants: FakeAnts, monkeypatch: pytest.MonkeyPatch, **options: Any) -> SynMethod:
    monkeypatch.setattr(peer_syn, "load_peer", lambda kind: ants)
    return SynMethod("SyN", **options)


def test_images_reach_ants_in_their_own_geometry_and_the_alignment_as_a_file(
    monkeypatch: pytest.MonkeyPatch, temporary: Path
) -> None:
    ants, pair = FakeAnts(), egg_pair()
    method_with(ants, monkeypatch, seed=6).register(pair)
    for role, volume in (("fixed", pair.fixed), ("moving", pair.moving)):
        judge = to_sitk(volume)
        np.testing.assert_array_equal(sitk.GetArrayFromImage(ants.given[role]), volume.array)
        np.testing.assert_allclose(ants.given[role].GetDirection(), judge.GetDirection(), atol=1e-9)
        np.testing.assert_allclose(ants.given[role].GetOrigin(), judge.GetOrigin(), atol=1e-9)
    np.testing.assert_allclose(ants.given["matrix_ras"], pair.initial_ras, atol=1e-9)
    assert (ants.given["syn_metric"], ants.given["syn_sampling"]) == ("CC", 4)
    assert ants.given["reg_iterations"] == (100, 70, 50, 20)
    assert ants.given["seed"] == 7
    assert ants.config._random_seed is None
    assert not {"mask", "moving_mask"} & ants.given.keys()
    method_with(ants, monkeypatch, metric="mi").register(pair)
    assert (ants.given["syn_metric"], ants.given["syn_sampling"]) == ("mattes", 32)


def test_the_warp_comes_before_the_matrix_and_after_it_on_the_way_back(
    monkeypatch: pytest.MonkeyPatch, temporary: Path
) -> None:
    pair = egg_pair()
    found = method_with(FakeAnts(), monkeypatch).register(pair)
    points = centres_of(pair.fixed.shape, pair.fixed.ras_from_ijk)[4:-4, 4:-4, 4:-4].reshape(-1, 3)
    moved = points + np.array([-1.0, -2.0, -3.0])  # LPS 1, 2, -3
    np.testing.assert_allclose(found.forward.transform_points(points), map_points(pair.initial_ras, moved), atol=1e-5)
    assert found.inverse is not None
    there = map_points(pair.initial_ras, points)
    expected = points - np.array([-1.0, -2.0, -3.0])
    np.testing.assert_allclose(found.inverse.transform_points(there), expected, atol=1e-5)
    assert list(temporary.iterdir()) == []


def test_masks_go_along_where_the_pair_has_some(monkeypatch: pytest.MonkeyPatch, temporary: Path) -> None:
    ants, pair = FakeAnts(), egg_pair()
    mask = Volume(array=(pair.fixed.array > 500).astype(np.uint8), ras_from_ijk=pair.fixed.ras_from_ijk)
    method_with(ants, monkeypatch).register(type(pair)(**{**vars(pair), "fixed_mask": mask}))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(ants.given["mask"]), mask.array)
    assert "moving_mask" not in ants.given


@pytest.mark.parametrize("ants", [FakeAnts(fails=True), FakeAnts(writes=False)], ids=["fails", "writes nothing"])
def test_a_failure_of_ants_is_one_sentence_and_leaves_nothing_behind(
    monkeypatch: pytest.MonkeyPatch, temporary: Path, ants: FakeAnts
) -> None:
    with pytest.raises(InputError, match="SyN cannot register egg two to egg one") as caught:
        method_with(ants, monkeypatch).register(egg_pair())
    assert caught.value.code == "peer-failed"
    assert list(temporary.iterdir()) == []
    assert ants.config._random_seed is None


def test_the_number_of_threads_is_what_itk_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", "7")
    method_with(FakeAnts(), monkeypatch)
    assert peer_syn.os.environ["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] == "7"
    method_with(FakeAnts(), monkeypatch, threads=3)
    assert peer_syn.os.environ["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] == "3"
