"""The picture of what models see: a PNG with a panel for each image and model, and Dice where labels are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from autofuse_engine.data.synthetic import make_pair
from autofuse_engine.data.volume import AxisOrder, Volume
from Testing.benchmarks.segmentation_picture import colours, draw, merged, slice_of
from Testing.engine.guided_models import save_guided_model


def test_a_picture_has_a_panel_for_each_image_and_model(tmp_path: Path) -> None:
    pair = make_pair(seed=3, shape=(24, 32, 28))
    model = save_guided_model(tmp_path, "seer")
    for truths in (None, [pair.fixed_labels, pair.moving_labels]):
        out = tmp_path / f"Bild {truths is None}.png"
        draw(out, [pair.fixed, pair.moving], truths, [str(model)], ["one", "two"])
        assert out.read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize("order", [AxisOrder(), AxisOrder(order=(2, 0, 1), flips=(True, False, True))])
def test_the_slice_is_axial_with_the_front_on_top_however_voxels_are_stored(order: AxisOrder) -> None:
    array = np.zeros((6, 8, 10), np.float32)
    array[2:5, 1:7, 1:9] = 1
    array[3, 6, 5] = 7  # in front
    image = Volume(array=array, ras_from_ijk=np.diag([1.0, 2.0, 3.0, 1.0]))
    shown, place = slice_of(image.reordered(order))
    assert place == 3
    assert shown.shape == (8, 10)
    assert shown[1, 4] == 7, "anterior is up, the patient's left on the right"


def test_labels_are_merged_and_background_is_clear(tmp_path: Path) -> None:
    table = tmp_path / "Tabelle.csv"
    table.write_text("old,new,name\n3,1,a\n4,1,a\n9,2,b\n", encoding="utf-8")
    labels = Volume(array=np.array([[[0, 3, 4, 5]]], np.int16), ras_from_ijk=np.eye(4))
    assert merged(labels, table).array.tolist() == [[[0, 1, 1, 0]]]
    assert colours(np.array([[0, 1]]))[0, :, 3].tolist() == [0, 0.55]
