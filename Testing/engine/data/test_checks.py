"""What an image, labelmap or mask must fulfil: each fault has a code, a sentence and a cure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from geometry_cases import FLIPPED, OBLIQUE, random_volume

from autofuse_engine.data.checks import check_image, check_labelmap, check_mask, check_pair
from autofuse_engine.data.volume import Volume
from autofuse_engine.errors import InputError


def refusal(code: str, check: Callable[..., None], *arguments: object) -> str:
    with pytest.raises(InputError) as caught:
        check(*arguments)
    assert caught.value.code == code
    assert caught.value.text.endswith(".")
    assert caught.value.hint.endswith(".")
    return caught.value.text


@pytest.mark.parametrize("matrix", [OBLIQUE, FLIPPED])
@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32", "float64", "uint64"])
def test_oblique_and_flipped_images_of_every_type_pass(matrix: np.ndarray, dtype: str) -> None:
    check_image(random_volume(matrix, dtype=dtype), "fixed image")


def test_the_sentence_names_role_and_volume() -> None:
    text = refusal("image-constant", check_image, random_volume().with_array(np.full((9, 11, 13), 4)), "moving image")
    assert text == "The moving image noise has the value 4 everywhere."


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_counted(value: float) -> None:
    volume = random_volume()
    volume.array[2, 3, 4:7] = value
    assert "holds 3 values" in refusal("image-not-finite", check_image, volume, "fixed image")


@pytest.mark.parametrize("dtype", [np.complex64, np.bool_, "U3"])
def test_other_than_numbers_are_refused(dtype: object) -> None:
    volume = random_volume().with_array(np.ones((9, 11, 13), dtype))
    assert str(np.dtype(dtype)) in refusal("image-not-scalar", check_image, volume, "fixed image")


def test_axes_a_thousandth_off_the_right_angle_pass_and_more_do_not() -> None:
    for shear, passes in ((5e-4, True), (3e-3, False)):
        matrix = OBLIQUE @ np.array([[1, shear * 2, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
        volume = random_volume(matrix)
        if passes:
            check_image(volume, "fixed image")
        else:
            assert "right angles" in refusal("image-sheared", check_image, volume, "fixed image")


def test_a_spacing_of_zero_is_shown() -> None:
    matrix = OBLIQUE.copy()
    matrix[:3, 1] = 0
    assert "1.25 x 0 x 0.75" in refusal("image-geometry-invalid", check_image, random_volume(matrix), "fixed image")


@pytest.mark.parametrize(("row", "column", "value"), [(0, 3, np.nan), (1, 1, np.inf), (3, 0, 0.5)])
def test_matrices_that_place_nothing_are_refused(row: int, column: int, value: float) -> None:
    matrix = OBLIQUE.copy()
    matrix[row, column] = value
    refusal("image-geometry-invalid", check_image, random_volume(matrix), "fixed image")


@pytest.mark.parametrize("shape", [(7, 20, 20), (20, 7, 20), (20, 20, 7)])
def test_a_side_of_seven_voxels_is_too_small(shape: tuple[int, int, int]) -> None:
    text = refusal("image-too-small", check_image, random_volume(shape=shape), "fixed image")
    assert " x ".join(str(side) for side in shape[::-1]) in text


def test_a_side_of_eight_voxels_is_enough() -> None:
    check_image(random_volume(shape=(8, 9, 10)), "fixed image")


def test_more_voxels_than_a_32_bit_index_are_too_many() -> None:
    array = np.broadcast_to(np.float32(1), (2048, 1024, 1025))
    volume = Volume(array=array, ras_from_ijk=OBLIQUE, name="giant")
    assert "2149580800" in refusal("image-too-large", check_image, volume, "fixed image")


SHIFT = np.array([[1.0, 0, 0, 1], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])


def test_one_image_in_both_places_is_refused_also_as_a_copy() -> None:
    volume = random_volume()
    assert "noise" in refusal("same-image-twice", check_pair, volume, volume)
    refusal("same-image-twice", check_pair, volume, replace(volume, name="other"))
    refusal("same-image-twice", check_pair, volume, replace(volume, array=volume.array.copy()))
    check_pair(volume, replace(volume, array=volume.array.copy(), ras_from_ijk=volume.ras_from_ijk @ SHIFT))


def test_a_pair_names_the_image_at_fault() -> None:
    bad = random_volume(FLIPPED).with_array(np.zeros((9, 11, 13)), name="empty")
    assert "moving image empty" in refusal("image-constant", check_pair, random_volume(), bad)
    assert "fixed image empty" in refusal("image-constant", check_pair, bad, random_volume())


def test_labelmaps_are_integers_on_the_grid_of_their_image() -> None:
    image, labels = random_volume(), random_volume(dtype="uint8")
    check_labelmap(labels, image, "fixed labelmap")
    refusal("labels-not-integer", check_labelmap, image, image, "fixed labelmap")
    refusal("labels-empty", check_labelmap, labels.with_array(np.zeros_like(labels.array)), image, "fixed labelmap")
    assert "places differ" in refusal(
        "labels-grid-differs", check_labelmap, random_volume(FLIPPED, dtype="uint8"), image, "fixed labelmap"
    )
    smaller = random_volume(shape=(9, 11, 12), dtype="uint8")
    assert "12 x 11 x 9 against 13 x 11 x 9" in refusal(
        "labels-grid-differs", check_labelmap, smaller, image, "fixed labelmap"
    )


def test_masks_are_on_the_grid_and_not_empty() -> None:
    image = random_volume()
    mask = image.with_array((image.array > 0).astype(np.uint8), name="mask")
    check_mask(mask, image, "fixed mask")
    check_mask(mask.with_array(mask.array > 0), image, "fixed mask")
    refusal("mask-empty", check_mask, mask.with_array(np.zeros_like(mask.array)), image, "fixed mask")
    refusal("mask-grid-differs", check_mask, mask, random_volume(FLIPPED), "fixed mask")
