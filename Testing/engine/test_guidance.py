"""Segmentations that guide a registration: their place on the working grid, their effect, and every door to them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from guided_models import save_guided_model

from autofuse_engine import cli
from autofuse_engine.configs import RegistrationConfig
from autofuse_engine.data.files import LPS_FROM_RAS, read_labelmap, to_sitk, write_volume
from autofuse_engine.data.preprocessing import Grid
from autofuse_engine.data.synthetic import SyntheticPair, make_pair
from autofuse_engine.data.volume import Volume
from autofuse_engine.errors import InputError
from autofuse_engine.events import Event, Result, Warning, silent
from autofuse_engine.guidance import Guidance
from autofuse_engine.registration import RegistrationResult, register
from autofuse_engine.worker_jobs import Jobs
from Testing.engine.test_segmentation_output import ball, oblique, points_of

SHAPE = (24, 32, 28)


@pytest.fixture(scope="module")
def pair() -> SyntheticPair:
    return make_pair(2, SHAPE)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_guided_model(tmp_path_factory.mktemp("Modelle mit Ä"))


def run(pair: SyntheticPair, model: Path | str, guidance: Guidance | None, report: Any = silent) -> RegistrationResult:
    config = RegistrationConfig(model=str(model), refinement_steps=0, initial="centers")
    labels = {"fixed_labels": pair.fixed_labels, "moving_labels": pair.moving_labels}
    return register(pair.fixed, pair.moving, config, **labels, guidance=guidance, report=report)


def moved(result: RegistrationResult) -> np.ndarray:
    return result.displacement_magnitude.array


# ------------------------------------------------------------------------------------------- on the working grid


def test_both_labelmaps_arrive_where_itk_says_that_they_are() -> None:
    work = oblique((40, 48, 36), (1.0, 1.1, 0.9), [10, -20, 30])
    fixed = oblique((24, 30, 44), (1.7, 1.4, -1.1), [-5, 8, 12])
    moving = oblique((28, 26, 40), (-1.2, 1.5, 1.6), [50, 8, -70])
    matrix = np.eye(4)
    matrix[:3, :3] = [[0.9, 0.1, 0], [-0.2, 1.0, 0.1], [0, 0.05, 1.1]]
    matrix[:3, 3] = [4.0, -3.0, 6.0]
    labels = [volume.with_array(10 * ball(points_of(volume)).astype(np.int16)) for volume in (fixed, moving)]
    guidance = Guidance(fixed=labels[0], moving=labels[1], classes={10: 3, 20: 1})
    found = guidance.on_grid(Grid(shape=work.shape, ras_from_ijk=work.ras_from_ijk), matrix)
    lps = LPS_FROM_RAS @ matrix @ LPS_FROM_RAS
    affine = sitk.AffineTransform(lps[:3, :3].ravel().tolist(), lps[:3, 3].tolist())
    for given, volume, transform in ((found.fixed, labels[0], sitk.Transform()), (found.moving, labels[1], affine)):
        values = sitk.Resample(to_sitk(volume), to_sitk(work), transform, sitk.sitkNearestNeighbor, 0)
        expected = np.array([0, 3, 1])[sitk.GetArrayFromImage(values) // 10]
        assert given is not None
        assert given.classes == (1, 3)
        assert set(np.unique(expected)) == {0, 1, 3}
        np.testing.assert_array_equal(given.labels[0, 0].numpy(), expected)


def test_a_class_is_given_only_on_the_side_that_shows_it_and_may_have_several_values() -> None:
    volume = oblique((16, 20, 24), (1.0, 1.5, 2.0), [5, 10, 15])
    fixed, moving = np.zeros(volume.shape, np.uint16), np.zeros(volume.shape, np.uint16)
    fixed[2:5], fixed[6:9] = 7, 300
    moving[3:8] = 9
    guidance = Guidance(
        fixed=volume.with_array(fixed), moving=volume.with_array(moving), classes={7: 2, 300: 2, 9: 1, 11: 3}
    )
    found = guidance.on_grid(Grid(shape=volume.shape, ras_from_ijk=volume.ras_from_ijk), np.eye(4))
    assert (found.fixed.classes, found.moving.classes) == ((2,), (1,))
    assert (found.fixed.labels[0, 0].numpy() == np.where(fixed > 0, 2, 0)).all()
    assert guidance.report({1: "a", 2: "b", 3: "c"}) == {
        "classes": ["a", "b"], "labels": [7, 9, 300], "fixed": True, "moving": True}  # fmt: skip


def test_a_labelmap_without_a_class_gives_nothing_on_its_side() -> None:
    volume = oblique((16, 20, 24), (1.0, 1.5, 2.0), [5, 10, 15])
    labels = volume.with_array(ball(points_of(volume)))
    found = Guidance(fixed=labels, classes={5: 1}).on_grid(Grid(shape=volume.shape, ras_from_ijk=np.eye(4)), np.eye(4))
    assert found.fixed is None
    assert found.moving is None


@pytest.mark.parametrize("classes", [{0: 1}, {1: 0}, {1: -1}, {"1": 1}, {1: 1.0}])
def test_classes_and_values_are_whole_numbers_above_zero(classes: Any) -> None:
    with pytest.raises(ValueError, match="whole numbers above 0"):
        Guidance(classes=classes)


# ------------------------------------------------------------------------------------------- register


def test_each_side_guides_the_field_and_the_report_says_so(pair: SyntheticPair, model: Path) -> None:
    sides = ({}, {"fixed": pair.fixed_labels}, {"moving": pair.moving_labels},
             {"fixed": pair.fixed_labels, "moving": pair.moving_labels})  # fmt: skip
    results = [run(pair, model, Guidance(**side, classes={1: 2, 2: 1}) if side else None) for side in sides]
    fields = [moved(result) for result in results]
    assert min(np.abs(a - b).max() for n, a in enumerate(fields) for b in fields[n + 1 :]) > 0.05
    told = [result.report["guidance"] for result in results]
    assert told[0] is None
    assert told[3] == {"classes": ["Outer Ring", "Core"], "labels": [1, 2], "fixed": True, "moving": True}
    assert [told[1]["moving"], told[2]["fixed"]] == [False, False]
    json.dumps(told)


def test_the_wrong_class_or_the_wrong_side_gives_another_field(pair: SyntheticPair, model: Path) -> None:
    right = Guidance(fixed=pair.fixed_labels, classes={1: 2})
    wrong = Guidance(fixed=pair.fixed_labels, classes={1: 3})
    assert np.abs(moved(run(pair, model, right)) - moved(run(pair, model, wrong))).max() > 0.05


@pytest.mark.parametrize(
    ("network", "classes", "reason"),
    [
        (None, {1: 1}, "no model segments, and no refinement heeds labels"),
        ({"classes": 0}, {1: 1}, "does not segment"),
        ({"input_fusion": False}, {1: 1}, "does not show its segmentations"),
        ({}, {99: 1}, "no label means a class of the model guided (Outer Ring, Core, Größe Rest)"),
        ({}, {}, "no label means a class of the model guided"),
    ],
)
def test_guidance_that_cannot_be_used_is_told_and_the_run_goes_on(
    pair: SyntheticPair, tmp_path: Path, network: dict[str, Any] | None, classes: dict[int, int], reason: str
) -> None:
    name = "none" if network is None else str(save_guided_model(tmp_path, **network))
    events: list[Event] = []
    result = run(pair, name, Guidance(fixed=pair.fixed_labels, classes=classes), events.append)
    warnings = [event for event in events if isinstance(event, Warning)]
    assert [warning.code for warning in warnings] == ["guidance-unused"]
    assert reason in warnings[0].text
    assert result.report["guidance"] is None
    assert np.array_equal(moved(result), moved(run(pair, name, None)))


def test_labelmaps_that_guide_lie_on_their_images(pair: SyntheticPair, model: Path) -> None:
    with pytest.raises(InputError) as caught:
        run(pair, model, Guidance(fixed=pair.moving_labels, classes={1: 1}))
    assert caught.value.code == "labels-grid-differs"
    assert "fixed labelmap that guides" in caught.value.text
    with pytest.raises(ValueError, match=r"lie in 1\.\.3, received \[4\]"):
        run(pair, model, Guidance(fixed=pair.fixed_labels, classes={1: 4}))


# ------------------------------------------------------------------------------------------- command line and worker


@pytest.fixture
def files(pair: SyntheticPair, tmp_path: Path) -> Path:
    folder = tmp_path / "Bilder für den Versuch"
    folder.mkdir()
    for name in ("fixed", "moving", "fixed_labels", "moving_labels"):
        write_volume(folder / f"{name}.nrrd", getattr(pair, name))
    return folder


def autofuse(files: Path, model: Path | str, *more: str) -> int:
    options = ["--model", str(model), "--refine", "0", "--initial", "centers", "--no-overview", "--quiet"]
    images = [str(files / "fixed.nrrd"), str(files / "moving.nrrd")]
    return cli.main(["register", *images, "-o", str(files / "out"), *options, *more])


def labels(files: Path) -> list[str]:
    return ["--fixed-labels", str(files / "fixed_labels.nrrd"), "--moving-labels", str(files / "moving_labels.nrrd")]


def test_the_command_guides_by_names_or_by_the_values_of_the_training_dataset(files: Path, model: Path) -> None:
    table = files / "Namen der Werte.csv"
    table.write_text("value,name\n1, core \n2,GRÖSSE_REST\n9,unknown\n", encoding="utf-8")
    reports = []
    for more in (["--guide", "--label-names", str(table)], ["--guide"], []):
        assert autofuse(files, model, *labels(files), *more) == 0
        reports.append(json.loads((files / "out" / "report.json").read_text(encoding="utf-8"))["guidance"])
    assert reports == [
        {"classes": ["Core", "Größe Rest"], "labels": [1, 2], "fixed": True, "moving": True},
        {"classes": ["Outer Ring", "Core"], "labels": [2, 3, 5], "fixed": True, "moving": True},
        None,
    ]


@pytest.mark.parametrize(
    ("more", "said", "cure"),
    [
        (["--guide"], "no segmentation to guide by", "--fixed-labels"),
        (["--guide", "ONE", "--model", "none"], "Without a model", "--model"),
        (["--guide", "APART", "--model", "none"], "occurs in both", "equal values"),
        (["--label-names", "TABLE"], "serves --guide only", "Add --guide"),
        (["--guide", "ONE", "--label-names", "TABLE"], "Outer Ring, Core, Größe Rest", "names of these classes"),
        (["--guide", "ONE", "--model", "OLD"], "No label value is one that the card", "--label-names FILE.csv"),
    ],
)
def test_wrong_use_gets_a_sentence_and_a_cure(
    files: Path, model: Path, more: list[str], said: str, cure: str, capsys: pytest.CaptureFixture[str]
) -> None:
    table = files / "other.csv"
    table.write_text("value;name\n1;liver\n", encoding="utf-8")
    old = [{"value": 1, "name": "Outer Ring"}]
    other = read_labelmap(files / "moving_labels.nrrd")
    write_volume(files / "other labels.nrrd", other.with_array(np.where(other.array > 0, other.array + 10, 0)))
    apart = [*labels(files)[:2], "--moving-labels", str(files / "other labels.nrrd")]
    places = {"TABLE": [str(table)], "ONE": labels(files)[:2], "APART": apart}
    if "OLD" in more:
        places["OLD"] = [str(save_guided_model(files, "old", entries=old))]
    given = [part for word in more for part in places.get(word, [word])]
    assert autofuse(files, model, *given, "--json") == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["code"] == "guidance-invalid"
    assert said in error["text"]
    assert cure in error["hint"]
    assert not (files / "out").exists()


def spec_of(pair: SyntheticPair, folder: Path, model: Path | str, **more: Any) -> dict[str, Any]:
    spec: dict[str, Any] = {"folder": str(folder), **more}
    spec["config"] = {"model": str(model), "refinement_steps": 0, "initial": "centers"}
    for name in ("fixed", "moving", "fixed_labels", "moving_labels"):
        volume: Volume = getattr(pair, name)
        np.save(folder / f"{name}.npy", volume.array)
        spec[name] = {"array": f"{name}.npy", "ras_from_ijk": volume.ras_from_ijk.tolist()}
    return spec


def answered(spec: dict[str, Any], events: list[Event]) -> Result:
    return Jobs().run("register", spec, report=events.append, cancelled=bool, finish_early=bool)


@pytest.mark.parametrize(
    ("more", "expected", "codes"),
    [
        ({"guide": True, "label_names": {"1": "outer ring"}}, ["Outer Ring"], []),
        ({"guide": True}, ["Outer Ring", "Core"], []),
        ({"guide": True, "label_names": {"1": "liver"}}, None, ["guidance-unused"]),
        ({"guide": False, "label_names": {"1": "outer ring"}}, None, []),
    ],
)
def test_the_worker_guides_when_it_is_asked_to(
    pair: SyntheticPair, model: Path, tmp_path: Path, more: dict[str, Any], expected: list[str] | None, codes: list[str]
) -> None:
    events: list[Event] = []
    report = answered(spec_of(pair, tmp_path, model, **more), events).report
    assert (report["guidance"] or {}).get("classes") == expected
    assert [event.code for event in events if isinstance(event, Warning)] == codes
    assert ("guided this result" in report["verdict"]["text"]) is (expected is not None)


@pytest.mark.parametrize("more", [{"guide": 1}, {"guide": True, "fixed_labels": None, "moving_labels": None},
                                  {"guide": True, "label_names": {"x": "a"}}, {"label_names": [1]}])  # fmt: skip
def test_requests_that_cannot_be_meant_are_refused(
    pair: SyntheticPair, model: Path, tmp_path: Path, more: dict[str, Any]
) -> None:
    with pytest.raises(InputError) as caught:
        answered(spec_of(pair, tmp_path, model) | more, [])
    assert caught.value.code == "request-invalid"
