"""What a reproduction trains: equal steps, widths in the paper's ratio, and the losses that each network needs."""

from __future__ import annotations

from typing import Any

import pytest

from autofuse_engine.configs import NETWORKS
from autofuse_engine.errors import InputError
from autofuse_engine.reproduction_estimate import usual_shape
from autofuse_engine.reproduction_figures import REPORTED_DICE_PERCENT
from autofuse_engine.reproduction_plan import (
    RUN_NAMES,
    PlannedRun,
    ReproductionConfig,
    plan_runs,
    scaled_channels,
    wanted_methods,
)


def plan(labels: int = 3, **more: Any) -> dict[str, PlannedRun]:
    config = ReproductionConfig(**({"target": "hippocampus", "budget": "small", "data": "raw"} | more))
    return {planned.name: planned for planned in plan_runs(config, "prepared", labels)}


def test_every_network_takes_the_same_number_of_steps_and_sees_one_pair_each() -> None:
    runs = plan(steps=101)
    assert set(runs) == set(RUN_NAMES)
    assert {planned.training.steps for planned in runs.values()} == {101}
    assert {planned.training.batch for planned in runs.values()} == {1}
    assert {planned.training.dataset for planned in runs.values()} == {"prepared"}


def test_at_the_papers_width_every_network_is_the_one_of_its_name() -> None:
    runs = plan(budget="full")
    for name in ("voxelmorph-1", "voxelmorph-2", "voxelmorph-diff", "autofuse", "autofuse-trans", "early-fuse",
                 "mid-fuse", "late-fuse", "multi-fuse", "autofuse-without-elk", "autofuse-varying",
                 "autofuse-disp"):  # fmt: skip
        network, known = runs[name].training.network.to_dict(), NETWORKS[name].to_dict()
        assert network | {"align_corners": True} == known
        assert not network["align_corners"]


def test_narrower_networks_keep_their_ratio() -> None:
    widths = {name: planned.training.network.channels for name, planned in plan(channels=8).items()}
    assert widths["autofuse"] == widths["autofuse-trans"] == widths["switch-sum"] == 8
    assert [widths[name] for name in ("early-fuse", "mid-fuse", "late-fuse", "multi-fuse")] == [23, 14, 22, 10]
    assert scaled_channels(NETWORKS["voxelmorph-2"], 6) == 8
    assert scaled_channels(NETWORKS["autofuse-trans"], 3) == 4
    assert scaled_channels(NETWORKS["mid-fuse"], 2) == 4


def test_networks_that_predict_displacements_are_kept_smooth_by_their_own_term() -> None:
    losses = {name: planned.training.losses for name, planned in plan().items()}
    assert losses["voxelmorph-1"].smoothness == 1.0
    assert losses["voxelmorph-2"].smoothness == 1.5
    assert losses["autofuse-disp"].smoothness > 0
    assert losses["autofuse-varying"].varying_smoothness > 0
    for name, planned in plan().items():
        if planned.training.network.field == "velocity":
            assert losses[name].smoothness == 0
            assert losses[name].kl > 0


def test_labels_are_learnt_from_as_in_the_papers_schedule() -> None:
    runs = plan(steps=101, labels=3)
    semi = [name for name, planned in runs.items() if planned.training.network.classes]
    assert semi == ["autofuse-semi-20", "autofuse-semi", "switch-inputs", "switch-sum", "switch-sum-inputs",
                    "switch-gate", "switch-gate-inputs"]  # fmt: skip
    for name in semi:
        training = runs[name].training
        assert training.network.classes == 4
        assert [(stage.pairs, stage.steps) for stage in training.stages] == [
            ("labelled", 50),
            ("labelled+unlabelled", 51),
        ]
        assert training.labelled_percent == (20 if name == "autofuse-semi-20" else 100)


def test_the_switches_are_all_combinations_that_join_the_two_paths() -> None:
    runs = plan()
    found = {
        (planned.training.network.fusion, planned.training.network.input_fusion)
        for name, planned in runs.items()
        if name.startswith("switch")
    }
    assert found == {("none", True), ("sum", False), ("sum", True), ("gate", False), ("gate", True)}


def test_without_labels_nothing_learns_from_them() -> None:
    assert not [name for name, planned in plan(labels=0).items() if planned.training.network.classes]


def test_methods_are_chosen_by_name_and_unknown_ones_refused() -> None:
    assert list(plan(methods=("syn", "mid-fuse"))) == ["mid-fuse"]
    config = ReproductionConfig(target="brain", budget="full", data="raw", methods=("mid-fuse", "magic"))
    with pytest.raises(InputError, match="'magic'"):
        wanted_methods(config)


def test_the_grid_that_is_assumed_is_that_of_the_prepared_sets() -> None:
    def shape(**more: Any) -> tuple[int, int, int]:
        return usual_shape(ReproductionConfig(**({"budget": "full", "data": "raw"} | more)))

    assert shape(target="hippocampus") == (48, 64, 48)
    assert shape(target="brain") == (80, 96, 80)
    assert shape(target="hippocampus", budget="small") == (32, 48, 32)


@pytest.mark.parametrize(
    "wrong", [{"target": "liver"}, {"budget": "huge"}, {"steps": 1}, {"channels": 0}, {"pairs": 0}]
)
def test_impossible_choices_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="received"):
        ReproductionConfig(**({"target": "brain", "budget": "small", "data": "raw"} | wrong))


def test_reported_figures_belong_to_methods_that_a_reproduction_runs() -> None:
    assert set(REPORTED_DICE_PERCENT) <= {*RUN_NAMES, "affine", "syn"}
    assert REPORTED_DICE_PERCENT["autofuse"] == {"OASIS": 80.8, "Mindboggle": 59.0, "Buckner": 63.5, "ACDC": 79.6}
