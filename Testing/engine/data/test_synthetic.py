"""The generated pair is what it says: reproducible, anisotropic, oblique, and its landmarks are true."""

import numpy as np

from autofuse_engine.data.synthetic import make_pair
from autofuse_engine.data.volume import map_points

SHAPE = (40, 56, 44)


def test_the_same_seed_gives_the_same_pair_and_another_seed_another() -> None:
    first, again, other = make_pair(3, SHAPE), make_pair(3, SHAPE), make_pair(4, SHAPE)
    assert np.array_equal(first.moving.array, again.moving.array)
    assert not np.array_equal(first.moving.array, other.moving.array)


def test_grids_differ_and_labels_lie_on_their_images() -> None:
    pair = make_pair(0, SHAPE)
    assert pair.fixed.shape == SHAPE
    assert not pair.fixed.same_grid(pair.moving)
    assert np.ptp(pair.moving.spacing_mm) > 0.2
    assert pair.fixed_labels.same_grid(pair.fixed)
    assert pair.moving_labels.same_grid(pair.moving)
    assert set(np.unique(pair.moving_labels.array)) == set(range(9))


def test_landmarks_lie_in_the_same_structure_in_both_images() -> None:
    pair = make_pair(1, SHAPE)

    def label_at(volume, points) -> list[int]:
        indices = np.round(map_points(np.linalg.inv(volume.ras_from_ijk), points)).astype(int)
        return [int(volume.array[k, j, i]) for i, j, k in indices]

    expected = [3, 4, 5, 6, 7, 8]
    assert label_at(pair.fixed_labels, pair.fixed_points_ras) == expected
    assert label_at(pair.moving_labels, pair.moving_points_ras) == expected
    assert np.linalg.norm(pair.fixed_points_ras - pair.moving_points_ras, axis=1).mean() > 3.0
