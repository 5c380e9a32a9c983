"""Peers are looked up without importing them, told apart by what is missing, and given a folder that they can name."""

from __future__ import annotations

import importlib
import importlib.metadata
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autofuse_engine import peer_packages
from autofuse_engine.data.files import to_sitk
from autofuse_engine.data.resample import resample_image
from autofuse_engine.data.transform import MatrixStep, SpatialTransform
from autofuse_engine.data.volume import Volume, map_points
from autofuse_engine.errors import FileError, InputError
from autofuse_engine.evaluation_configs import PEER_KINDS, MethodSpec, parse_method
from autofuse_engine.evaluation_peers import available_peers, peer_method
from autofuse_engine.peer_elastix import final_spacing_mm, parameters
from autofuse_engine.peer_folder import plain_temporary_folder
from autofuse_engine.peer_geometry import grid_of_lps, grid_then_matrix, lps_matrix, placement_of
from Testing.engine.peer_pairs import centres_of, egg_pair, oblique_grid

DISTRIBUTIONS = {"syn": "antspyx", "elastix": "itk-elastix", "voxelmorph": "voxelmorph"}


def nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", version)


@pytest.mark.parametrize("kind", ["syn", "elastix"])
def test_an_absent_peer_is_told_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch, kind: Any) -> None:
    nothing_installed(monkeypatch)
    with pytest.raises(InputError) as caught:
        peer_method(MethodSpec(name=kind, kind=kind))
    assert caught.value.code == "peer-not-installed"
    assert f"pip install {DISTRIBUTIONS[kind]}" in caught.value.hint
    assert caught.value.text.count(".") == 1


def test_peers_are_listed_with_their_versions_without_importing_any(monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(available_peers()) == set(PEER_KINDS) == set(DISTRIBUTIONS)
    nothing_installed(monkeypatch)
    assert available_peers() == {"syn": None, "elastix": None, "voxelmorph": None}
    monkeypatch.setattr(importlib.metadata, "version", lambda name: f"1.0 of {name}")
    monkeypatch.setattr(importlib, "import_module", lambda name: pytest.fail(f"imports {name}"))
    assert available_peers() == {kind: f"1.0 of {name}" for kind, name in DISTRIBUTIONS.items()}


def test_a_package_that_is_there_but_does_not_load_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> Any:
        raise ImportError("DLL load failed\n  while importing _core.")

    monkeypatch.setattr(importlib.metadata, "version", lambda name: "9.9")
    monkeypatch.setattr(importlib, "import_module", broken)
    with pytest.raises(InputError, match="does not load: DLL load failed while importing _core") as caught:
        peer_packages.load_peer("elastix")
    assert caught.value.code == "peer-not-installed"


def test_voxelmorph_without_weights_says_how_to_get_some() -> None:
    with pytest.raises(InputError) as caught:
        peer_method(parse_method("voxelmorph"))
    assert caught.value.code == "peer-weights-missing"


def test_a_method_of_our_own_is_no_peer() -> None:
    with pytest.raises(ValueError, match="a peer is one of"):
        peer_method(parse_method("affine"))


def test_an_image_lies_where_simpleitk_puts_it() -> None:
    pair = egg_pair()
    for volume in (pair.fixed, pair.moving):
        place, judge = placement_of(volume), to_sitk(volume)
        np.testing.assert_allclose(place.origin, judge.GetOrigin(), atol=1e-9)
        np.testing.assert_allclose(place.spacing, judge.GetSpacing(), atol=1e-9)
        np.testing.assert_allclose(place.direction.ravel(), judge.GetDirection(), atol=1e-9)


def test_a_matrix_in_lps_takes_points_where_the_one_in_ras_does() -> None:
    matrix = egg_pair().initial_ras
    point_ras = np.array([5.0, -40.0, 13.0])
    expected = map_points(matrix, point_ras) * (-1, -1, 1)
    np.testing.assert_allclose(map_points(lps_matrix(matrix), point_ras * (-1, -1, 1)), expected, atol=1e-9)


def test_a_field_in_lps_moves_points_to_where_its_vectors_point() -> None:
    shape = (5, 7, 6)
    place = Volume(array=np.zeros(shape), ras_from_ijk=oblique_grid(shape, (2.0, 1.5, 3.0), (20.0, 5.0, -8.0)))
    vectors_lps = np.random.default_rng(3).normal(0, 2, (*shape, 3))
    centres = centres_of(shape, place.ras_from_ijk).reshape(-1, 3)
    expected_lps = centres * (-1, -1, 1) + vectors_lps.reshape(-1, 3)
    step = grid_of_lps(vectors_lps, place)
    np.testing.assert_allclose(step.transform_points(centres) * (-1, -1, 1), expected_lps, atol=1e-9)
    with pytest.raises(ValueError, match="shape"):
        grid_of_lps(vectors_lps[1:], place)


def test_a_whole_transform_becomes_a_grid_and_the_initial_matrix_beyond_it() -> None:
    pair = egg_pair()
    place, matrix = pair.fixed, pair.initial_ras
    centres = centres_of(place.shape, place.ras_from_ijk).reshape(-1, 3)
    landed = map_points(matrix, centres) + np.sin(centres / 9.0)  # any transform at all
    displacement_lps = ((landed - centres) * (-1, -1, 1)).reshape(*place.shape, 3)
    chain = grid_then_matrix(displacement_lps, place, matrix)
    np.testing.assert_allclose(chain.transform_points(centres), landed, atol=1e-6)
    far = np.array([[500.0, 400.0, -300.0]])
    np.testing.assert_allclose(chain.transform_points(far), map_points(matrix, far), atol=1e-9)


def test_the_test_pair_needs_its_initial_alignment() -> None:
    pair = egg_pair(shift_mm=0.0)
    for matrix, least, most in ((np.eye(4), 30, 1000), (pair.initial_ras, 0, 12)):
        moved = resample_image(pair.moving, SpatialTransform(steps=(MatrixStep(matrix_ras=matrix),)), pair.fixed)
        assert least <= float(np.abs(moved.array - pair.fixed.array).mean()) <= most


def test_the_spline_is_as_fine_as_the_image_allows() -> None:
    small = Volume(array=np.zeros((30, 50, 36)), ras_from_ijk=np.diag([1.0, 1.0, 1.0, 1.0]))
    brain = Volume(array=np.zeros((160, 200, 180)), ras_from_ijk=np.diag([1.0, 1.0, 1.0, 1.0]))
    assert final_spacing_mm(small) == pytest.approx(4.0)
    assert final_spacing_mm(brain) == pytest.approx((160 * 200 * 180) ** (1 / 3) / 24)
    assert parameters(small, 0)["NumberOfResolutions"] == ("3",)
    assert parameters(small, 0)["GridSpacingSchedule"] == ("4", "2", "1")
    assert parameters(brain, 0)["GridSpacingSchedule"] == ("8", "4", "2", "1")
    assert parameters(brain, 6)["RandomSeed"] == ("7",)
    assert parameters(brain, 0)["HowToCombineTransforms"] == ("Compose",)


def test_the_folder_of_a_peer_may_have_spaces_and_letters_and_is_gone_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "Jörgs Dateien" / "zwischen ablage"
    place.mkdir(parents=True)
    monkeypatch.setattr(tempfile, "tempdir", str(place))

    def stopped_halfway() -> None:
        with plain_temporary_folder() as folder:
            assert folder.parent == place
            (folder / "warp.nii.gz").write_bytes(b"0")
            raise RuntimeError("halfway")

    with pytest.raises(RuntimeError, match="halfway"):
        stopped_halfway()
    assert list(place.iterdir()) == []


def test_a_folder_whose_name_breaks_command_lines_is_avoided_or_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, good = tmp_path / "a,b[1]", tmp_path / "good"
    bad.mkdir()
    good.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(bad))
    monkeypatch.chdir(good)
    if not any(letter in str(tmp_path) for letter in "[],;'\""):
        with plain_temporary_folder() as folder:
            assert folder.parent == Path.cwd()
    monkeypatch.chdir(bad)
    monkeypatch.delenv("PUBLIC", raising=False)
    monkeypatch.delenv("PROGRAMDATA", raising=False)
    with pytest.raises(FileError) as caught, plain_temporary_folder():
        pass
    assert caught.value.code == "peer-folder"
