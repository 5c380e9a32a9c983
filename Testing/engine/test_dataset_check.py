"""Checking a dataset tells everything that is wrong with it, at once, in words, with a cure."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent / "data"))

from dataset_folder import SHAPE, described_folder, egg, plain_folder, write_series

from autofuse_engine.cli import main
from autofuse_engine.data.case_facts import CaseFacts, content_sha256, look_at_case, nearest_orientation
from autofuse_engine.data.cases import CaseSource
from autofuse_engine.data.files import write_volume
from autofuse_engine.data.volume import Volume
from autofuse_engine.dataset_check import DatasetReport, check_dataset
from autofuse_engine.errors import CancelledError
from autofuse_engine.events import Event, Progress


def codes(report: DatasetReport, *severities: str) -> set[str]:
    return {problem.code for problem in report.problems if not severities or problem.severity in severities}


def image(root: Path, number: int) -> Path:
    return root / "images" / f"egg {number}.nii.gz"


def label(root: Path, number: int) -> Path:
    return root / "labels" / f"egg {number}.nii.gz"


def rewritten(path: Path, change: Callable[[np.ndarray], np.ndarray], number: int = 0) -> None:
    """Change the values that egg ``number`` has in ``path``."""
    volume = egg(number)[0 if path.parent.name == "images" else 1]
    write_volume(path, volume.with_array(change(volume.array)))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> DatasetReport:
    return check_dataset(described_folder(tmp_path_factory.mktemp("eggs"), 12, 2))


def test_a_good_dataset_has_neither_errors_nor_warnings(whole: DatasetReport) -> None:
    assert codes(whole, "error", "warning") == set()
    assert not whole.has_errors
    assert whole.splits == {"train": 12, "validation": 2}


def test_facts_agree_with_how_the_images_were_made(whole: DatasetReport) -> None:
    facts = whole.cases[1]
    volume, labels = egg(1)
    assert facts.size == SHAPE[::-1]
    np.testing.assert_allclose(facts.spacing_mm or (), np.array([1.9, 2.1, 2.4]) * 1.04, rtol=1e-5)
    assert [case.orientation for case in whole.cases[:3]] == ["LPS", "RAS", "RPS"]
    assert [case.oblique_deg for case in whole.cases[:3]] == [8, 0, 8]
    assert facts.data_type == "int16"
    assert (facts.lowest, facts.highest) == (0, volume.array.max())
    assert facts.label_voxels == {value: int((labels.array == value).sum()) for value in (2, 5, 9)}
    np.testing.assert_allclose(facts.extent_mm or (), [34, 48, 30], atol=7)


def test_labels_are_counted_over_all_cases(whole: DatasetReport) -> None:
    assert [(fact.value, fact.name, fact.cases) for fact in whole.labels] == [
        (2, "white", 14),
        (5, "left kernel", 14),
        (9, "right kernel", 14),
    ]
    kernel_ml = 4 / 3 * np.pi * 5.5**3 / 1000
    assert whole.labels[1].mean_ml == pytest.approx(kernel_ml, rel=0.1)


def test_the_report_is_json(whole: DatasetReport) -> None:
    content = json.loads(json.dumps(whole.to_dict()))
    assert content["counts"]["error"] == 0
    assert content["labelled_cases"] == 14
    assert CaseFacts.from_dict(content["cases"][3]) == whole.cases[3]


def test_mixed_orientations_are_a_fact_not_a_fault(whole: DatasetReport) -> None:
    problem = next(problem for problem in whole.problems if problem.code == "orientations-mixed")
    assert problem.severity == "info"
    assert "RAS" in problem.text


def test_every_damage_is_told_at_once_with_its_case_and_a_cure(tmp_path: Path) -> None:
    root = plain_folder(tmp_path / "Eier üö", 10)
    image(root, 0).write_bytes(image(root, 0).read_bytes()[:-2000])
    image(root, 1).write_text("no image", encoding="utf-8")
    write_series(image(root, 2), [egg(2)[0], egg(2)[0]])
    rewritten(image(root, 3), lambda array: array * 0 + 7, 3)
    write_volume(label(root, 4), egg(5)[1])
    rewritten(label(root, 5), lambda array: array + np.float32(0.5), 5)
    rewritten(label(root, 6), lambda array: -array.astype(np.int16), 6)
    rewritten(label(root, 7), lambda array: array * 0, 7)
    found = {problem.code: problem for problem in check_dataset(root).problems}
    expected = {
        "truncated-file": 0,
        "not-an-image": 1,
        "image-not-3d": 2,
        "image-constant": 3,
        "labels-grid-differs": 4,
        "labels-not-integer": 5,
        "labels-negative": 6,
        "labels-empty": 7,
    }
    for code, number in expected.items():
        problem = found[code]
        assert f"egg {number}" in problem.text, code
        assert problem.cases == (f"egg {number}",)
        assert problem.hint
        assert problem.severity == ("warning" if code == "labels-empty" else "error")


def test_alike_problems_of_several_cases_are_one(tmp_path: Path) -> None:
    root = plain_folder(tmp_path, 4)
    for number in (0, 2, 3):
        rewritten(image(root, number), lambda array: array * 0, number)
    problem = next(problem for problem in check_dataset(root).problems if problem.code == "image-constant")
    assert problem.cases == ("egg 0", "egg 2", "egg 3")
    assert "The same holds for egg 2, egg 3." in problem.text


def test_copies_are_found_also_under_another_name_format_and_type(tmp_path: Path) -> None:
    root = plain_folder(tmp_path, 3)
    volume = egg(1)[0]
    write_volume(root / "images" / "copy.nrrd", volume.with_array(volume.array.astype(np.float32)))
    problem = next(problem for problem in check_dataset(root).problems if problem.code == "cases-identical")
    assert (problem.severity, set(problem.cases)) == ("warning", {"copy", "egg 1"})


def test_a_copy_or_a_patient_in_two_splits_is_an_error(tmp_path: Path) -> None:
    root = plain_folder(tmp_path, 5)
    write_volume(image(root, 4), egg(1)[0])
    table = "case,patient,split\negg 0,Ana,train\negg 3,Ana,validation\negg 4,Bo,validation\n"
    (root / "cases.csv").write_text(table, encoding="utf-8")
    found = {problem.code: problem for problem in check_dataset(root).problems}
    assert set(found["leak-between-splits"].cases) == {"egg 1", "egg 4"}
    assert set(found["patient-in-two-splits"].cases) == {"egg 0", "egg 3"}
    assert found["leak-between-splits"].severity == found["patient-in-two-splits"].severity == "error"


def test_rare_absent_and_unnamed_labels_are_told(tmp_path: Path) -> None:
    root = plain_folder(tmp_path, 12)
    rewritten(label(root, 0), lambda array: np.where(array == 5, 77, array).astype(np.uint8), 0)
    found = {problem.code: problem for problem in check_dataset(root).problems}
    assert "77 (1)" in found["labels-rare"].text
    assert found["labels-rare"].cases == ("egg 0",)
    assert "5 (1)" in found["labels-absent"].text
    assert "2, 5, 9, 77" in found["labels-unnamed"].text


def test_missing_labels_few_cases_and_no_validation_are_told(tmp_path: Path) -> None:
    report = check_dataset(plain_folder(tmp_path, 3, labelled=2))
    assert {"cases-without-labels", "few-cases", "no-validation-cases"} <= codes(report)
    assert next(p for p in report.problems if p.code == "cases-without-labels").cases == ("egg 2",)
    assert not report.has_errors


def test_one_case_is_too_few(tmp_path: Path) -> None:
    assert "too-few-cases" in codes(check_dataset(plain_folder(tmp_path, 1)), "error")


def test_intensities_that_do_not_belong_together_are_told(tmp_path: Path) -> None:
    root = plain_folder(tmp_path, 3, labelled=0)
    rewritten(image(root, 0), lambda array: array - 1000)
    report = check_dataset(root)
    assert next(p for p in report.problems if p.code == "intensities-mixed").cases == ("egg 0",)
    for number in (1, 2):
        rewritten(image(root, number), lambda array: array - 1000, number)
    assert "intensities-like-ct" in codes(check_dataset(root), "info")
    for number in range(3):
        rewritten(image(root, number), lambda array: (array / 400.0 - 1) * (1 + 49 * (array[0, 0, 0] < 0)), number)
    assert "intensities-negative" in codes(check_dataset(root), "info")
    rewritten(image(root, 2), lambda array: array * 30.0, 2)
    assert "intensity-scales-mixed" in codes(check_dataset(root), "info")


def test_unusual_sizes_spacings_and_thick_slices_are_told(tmp_path: Path) -> None:
    root = plain_folder(tmp_path, 5, labelled=0)
    volume = egg(2)[0]
    scale = np.diag([4.0, 4.0, 16.0, 1.0])
    write_volume(image(root, 2), Volume(array=volume.array, ras_from_ijk=volume.ras_from_ijk @ scale))
    found = {problem.code: problem for problem in check_dataset(root).problems}
    assert found["extent-unusual"].cases == ("egg 2",)
    assert found["slices-thick"].cases == ("egg 2",)
    assert "spacings-mixed" in found


@pytest.mark.parametrize(("letters", "signs"), [("LPS", (-1, -1, 1)), ("RAS", (1, 1, 1)), ("LAI", (-1, 1, -1))])
def test_orientation_letters_are_those_of_nibabel_and_slicer(letters: str, signs: tuple[int, int, int]) -> None:
    turn = np.deg2rad(10)
    oblique = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    matrix = np.eye(4)
    matrix[:3, :3] = oblique @ np.diag(signs) @ np.diag([1.0, 2.0, 3.0])
    found, angle = nearest_orientation(matrix)
    assert found == letters
    assert angle == pytest.approx(10)


def test_orientation_of_permuted_axes_follows_the_stored_axes() -> None:
    matrix = np.eye(4)
    matrix[:3, :3] = np.array([[0, 0, -1.0], [2.0, 0, 0], [0, 3.0, 0]])  # i to anterior, j to superior, k to left
    assert nearest_orientation(matrix) == ("ASL", 0.0)


def test_equal_values_in_another_shape_are_not_the_same() -> None:
    values = np.arange(24)
    assert content_sha256(values.reshape(2, 3, 4)) != content_sha256(values.reshape(3, 2, 4))


def test_a_case_that_is_gone_is_a_problem_not_an_exception(tmp_path: Path) -> None:
    facts = look_at_case(CaseSource(name="gone", image=tmp_path / "gone.nii.gz"))
    assert [problem.code for problem in facts.problems] == ["file-not-found"]
    assert facts.has_error


def test_progress_rises_to_one_and_cancelling_stops(tmp_path: Path) -> None:
    root = plain_folder(tmp_path, 3)
    events: list[Event] = []
    check_dataset(root, events.append)
    fractions = [event.fraction for event in events if isinstance(event, Progress)]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1
    with pytest.raises(CancelledError):
        check_dataset(root, cancelled=lambda: True)


def test_several_processes_give_the_same_report(tmp_path: Path) -> None:
    root = plain_folder(tmp_path / "mit Leerzeichen é", 5)
    image(root, 1).write_text("no image", encoding="utf-8")
    assert check_dataset(root, jobs=2).to_dict() == check_dataset(root, jobs=1).to_dict()


class TestCommand:
    def test_errors_give_exit_code_two_and_json(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        root = plain_folder(tmp_path, 3)
        assert main(["dataset", "check", str(root), "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["status"] == "ok"
        image(root, 1).write_text("no image", encoding="utf-8")
        assert main(["dataset", "check", str(root), "--json"]) == 2
        content = json.loads(capsys.readouterr().out)
        assert content["status"] == "error"
        assert content["report"]["problems"][0]["code"] == "not-an-image"

    def test_the_table_names_cases_labels_problems_and_cures(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("COLUMNS", "200")
        root = described_folder(tmp_path, 3)
        (root / "labelsTr" / "egg_0002_0000.nii.gz").unlink()
        assert main(["dataset", "check", str(root)]) == 2
        shown = capsys.readouterr().out
        for text in ("egg_0001_0000", "25 x 28 x 22", "left kernel", "Error: The labelmap", "-> Complete the folder"):
            assert text in shown
        assert "cannot be used as it is. Kinds of errors: 1, of warnings: 1." in shown

    def test_quiet_shows_errors_and_warnings_only(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["dataset", "check", str(plain_folder(tmp_path, 3)), "--quiet"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert [line.split(":")[0] for line in lines] == ["warning (few-cases)"]

    def test_a_folder_that_is_none_is_an_error_of_its_own(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["dataset", "check", str(tmp_path / "none")]) == 2
        assert "dataset-not-found" in capsys.readouterr().err
