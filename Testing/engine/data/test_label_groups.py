"""Label values become 1 to K: merged, dropped or renumbered as the table says, and no voxel otherwise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from autofuse_engine.data.label_groups import make_groups, read_label_rules
from autofuse_engine.dataset_configs import LabelRule, PreparationConfig
from autofuse_engine.errors import FileError, InputError


def test_without_a_table_values_are_numbered_without_gaps() -> None:
    groups = make_groups([90, 0, 4, 17, 4], {4: "stem", 90: "vermis"})
    assert groups.new_of_old == {4: 1, 17: 2, 90: 3}
    assert [(label.value, label.name, label.sources) for label in groups.label_names()] == [
        (1, "stem", (4,)),
        (2, "label 17", (17,)),
        (3, "vermis", (90,)),
    ]
    labels = np.array([[[0, 90], [4, 17]], [[17, 17], [5, 0]]], np.int32)
    assert groups.group(labels).tolist() == [[[0, 3], [1, 2]], [[2, 2], [0, 0]]]
    assert groups.group(labels).dtype == np.uint8


def test_a_table_merges_left_and_right_and_drops_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "gruppen.csv"
    path.write_text("old;new;name\n47;1;hippocampus\n48;1;hippocampus\n35;0;\n11;2;\n", encoding="utf-8-sig")
    rules = read_label_rules(path)
    groups = make_groups([11, 35, 47, 48, 99], {11: "4th ventricle"}, rules)
    assert groups.group(np.array([[[11, 35, 47, 48, 99, 0]]])).tolist() == [[[2, 0, 1, 1, 0, 0]]]
    assert [(label.value, label.name, label.sources) for label in groups.label_names()] == [
        (1, "hippocampus", (47, 48)),
        (2, "4th ventricle", (11,)),
    ]


def test_many_labels_need_sixteen_bits() -> None:
    groups = make_groups(range(1, 301), {})
    grouped = groups.group(np.arange(302).reshape(1, 2, 151))
    assert grouped.dtype == np.uint16
    assert grouped.max() == 300
    with pytest.raises(InputError) as caught:
        make_groups(range(1, 70_000), {})
    assert caught.value.code == "labels-too-many"


@pytest.mark.parametrize(
    "text", ["old,name\n1,x\n", "old,new\n1,x\n", "old,new\n-1,2\n", "old,new\n1,70000\n", "", "new,old\n"]
)
def test_a_table_that_says_nothing_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "labels.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises((FileError, ValueError)) as caught:
        PreparationConfig(label_rules=read_label_rules(path))
    assert isinstance(caught.value, ValueError) == (text == "new,old\n")


def test_rules_that_contradict_each_other_are_refused() -> None:
    for rules, words in (
        ((LabelRule(old=3, new=1), LabelRule(old=3, new=2)), "one rule"),
        ((LabelRule(old=3, new=1, name="a"), LabelRule(old=4, new=1, name="b")), "one name"),
        ((LabelRule(old=3, new=0),), "at least one"),
    ):
        with pytest.raises(ValueError, match=words):
            PreparationConfig(label_rules=rules)


def test_the_configuration_survives_json_and_its_checksum_follows_its_content() -> None:
    import json

    config = PreparationConfig(
        label_rules=(LabelRule(old=47, new=1, name="hippocampus ä"),), spacing_mm=(1, 1.5, 2), size=(32, 48, 16)
    )
    again = PreparationConfig.from_dict(json.loads(json.dumps(config.to_dict())))
    assert again == config
    assert again.checksum() == config.checksum()
    assert PreparationConfig(seed=1).checksum() != PreparationConfig().checksum()


@pytest.mark.parametrize(
    "wrong",
    [
        {"alignment": "elastic"},
        {"orientation": "RAR"},
        {"orientation": "RASX"},
        {"spacing_mm": (1.0, 1.0)},
        {"spacing_mm": (1.0, 1.0, 0.0)},
        {"size": (32, 40, 16)},
        {"size": (32, 32, 0)},
        {"margin_vox": -1},
        {"intensity_percentiles": (5.0, 5.0)},
        {"intensity_window": (300.0, -200.0)},
        {"validation_percent": 95},
        {"reference": ""},
    ],
)
def test_a_configuration_that_breaks_a_rule_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="received"):
        PreparationConfig(**wrong)  # type: ignore[arg-type]
