"""The command line: options to configuration, files in and out, errors to exit codes."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_registration import fake_register

from autofuse_engine import __version__, cli, commands
from autofuse_engine.configs import NETWORKS, RegistrationConfig
from autofuse_engine.data.files import read_labelmap, read_volume, write_volume
from autofuse_engine.data.points import read_points
from autofuse_engine.data.transform_files import read_transform
from autofuse_engine.data.volume import Volume
from autofuse_engine.errors import InputError

FIXED_MATRIX = np.array([[0, -2.0, 0, 5], [1.5, 0, 0, -8], [0, 0, -3.0, 11], [0, 0, 0, 1]])
MOVING_MATRIX = np.array([[1.8, 0, 0, -12], [0, 0, 1.6, -7], [0, 2.1, 0, -14], [0, 0, 0, 1]])
RESULT = {
    "transform.h5",
    "inverse.h5",
    "warped.nii.gz",
    "jacobian.nii.gz",
    "displacement_magnitude.nii.gz",
    "report.json",
}


@pytest.fixture
def pair(tmp_path: Path) -> Path:
    """A folder, with a blank in its name, that holds a pair of images and labelmaps."""
    folder = tmp_path / "images of Ä"
    folder.mkdir()
    random = np.random.default_rng(5)
    for name, shape, matrix in (("fixed", (10, 12, 9), FIXED_MATRIX), ("moving", (11, 8, 13), MOVING_MATRIX)):
        volume = Volume(array=random.random(shape).astype(np.float32), ras_from_ijk=matrix)
        write_volume(folder / f"{name}.nii.gz", volume)
        write_volume(folder / f"{name}_labels.nrrd", volume.with_array((volume.array * 3).astype(np.uint8)))
    return folder


class Calls(list[dict[str, Any]]):
    """What ``register`` was called with."""


@pytest.fixture
def staged(monkeypatch: pytest.MonkeyPatch) -> Calls:
    calls = Calls()

    def record(**arguments: Any) -> Any:
        calls.append(arguments)
        return fake_register(**arguments)

    monkeypatch.setattr(commands, "register", record)
    return calls


def register(pair: Path, *more: str) -> int:
    images = [str(pair / "fixed.nii.gz"), str(pair / "moving.nii.gz")]
    return cli.main(["register", *images, "-o", str(pair / "out"), *more])


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_register_leaves_every_file_and_shows_the_figures(
    pair: Path, staged: Calls, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = [f"--{name}-labels={pair / name}_labels.nrrd" for name in ("fixed", "moving")]
    assert register(pair, *labels) == 0
    assert names_in(pair / "out") == RESULT | {"warped_labels.nii.gz", "overview.png"}
    shown = capsys.readouterr()
    for words in ("NCC", "0.4200", "0.9100", "Dice", "0.8400", "folding", "inverse consistency", "seconds, refinement",
                  "transform.h5", "Better aligned"):  # fmt: skip
        assert words in shown.out
    assert "Warning (fake)" in shown.err
    assert "refinement" in shown.err
    warped = read_volume(pair / "out" / "warped.nii.gz")
    np.testing.assert_allclose(warped.ras_from_ijk, FIXED_MATRIX, atol=1e-5)
    assert set(np.unique(read_labelmap(pair / "out" / "warped_labels.nii.gz").array)) <= {0, 1, 2}
    report = json.loads((pair / "out" / "report.json").read_text(encoding="utf-8"))
    assert report["metrics"]["after"]["ncc"] == 0.91


def test_options_reach_the_configuration_and_files_the_right_inputs(pair: Path, staged: Calls) -> None:
    matrix = pair / "start.txt"
    matrix.write_text("1 0 0 4\n0 1 0 -5\n0 0 1 6\n0 0 0 1\n", encoding="utf-8")
    options = ["--model", "none", "--initial", str(matrix), "--refine", "7", "--similarity", "mind",
               "--smoothness", "0.5", "--spacing", "2.5",
               "--samples", "3", "--device", "cpu", "--precision", "bfloat16", "--seed", "11", "--no-overview", "-q",
               f"--fixed-mask={pair / 'fixed_labels.nrrd'}",
               f"--moving-labels={pair / 'moving_labels.nrrd'}"]  # fmt: skip
    assert register(pair, *options) == 0
    (call,) = staged
    assert call["config"] == RegistrationConfig(
        model="none",
        initial="matrix",
        initial_matrix_ras=((1, 0, 0, 4), (0, 1, 0, -5), (0, 0, 1, 6), (0, 0, 0, 1)),
        refinement_steps=7,
        smoothness=0.5,
        similarity="mind",
        spacing_mm=2.5,
        samples=3,
        device="cpu",
        precision="bfloat16",
        seed=11,
    )
    assert call["fixed"].shape == (10, 12, 9)
    assert call["moving"].shape == (11, 8, 13)
    assert call["fixed_mask"].shape == (10, 12, 9)
    assert call["moving_labels"].shape == (11, 8, 13)
    assert call["fixed_labels"] is None
    assert call["moving_mask"] is None


def test_without_options_the_configuration_is_the_default_one(pair: Path, staged: Calls) -> None:
    assert register(pair, "--quiet", "--no-overview") == 0
    assert staged[0]["config"] == RegistrationConfig()


@pytest.mark.parametrize("ending", ["nii.gz", "nrrd"])
def test_the_transform_can_be_a_displacement_field(pair: Path, staged: Calls, ending: str) -> None:
    assert register(pair, "-q", "--no-overview", "--transform-format", ending) == 0
    assert {f"transform.{ending}", f"inverse.{ending}"} <= names_in(pair / "out")
    points = np.array([[-5.0, -4.0, 2.0]])
    expected = fake_register(staged[0]["fixed"], staged[0]["moving"]).transform.transform_points(points)
    found = read_transform(pair / "out" / f"transform.{ending}").transform_points(points)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_json_is_one_document_and_the_only_output(
    pair: Path, staged: Calls, capsys: pytest.CaptureFixture[str]
) -> None:
    assert register(pair, "--json", "--no-overview") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["status"] == "ok"
    assert set(document["files"]) == RESULT
    assert all(Path(path).is_file() for path in document["files"].values())
    assert document["report"]["folding_count"] == 0
    assert document["verdict"]["level"] == "good"


def test_quiet_prints_warnings_only(pair: Path, staged: Calls, capsys: pytest.CaptureFixture[str]) -> None:
    assert register(pair, "--quiet", "--no-overview") == 0
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.splitlines() == ["Warning (fake): This is a stand-in."]


@pytest.mark.parametrize("arguments", [["--quiet", "--json"], ["--quiet"]])
def test_errors_have_code_sentence_and_cure_and_exit_with_2(
    pair: Path, staged: Calls, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    (pair / "moving.nii.gz").unlink()
    assert register(pair, "--no-overview", *arguments) == 2
    shown = capsys.readouterr()
    assert "Error (file-not-found)" in shown.err
    assert "moving.nii.gz" in shown.err
    assert "Traceback" not in shown.err
    if "--json" in arguments:
        assert json.loads(shown.out)["error"]["code"] == "file-not-found"
    assert not (pair / "out").exists()
    assert not staged


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--initial", "sideways"], "initial-unknown"),
        (["--spacing", "-3"], "options-invalid"),
        (["--samples", "-1"], "options-invalid"),
        (["--similarity", "entropy"], "arguments-invalid"),
        (["--refine", "many"], "arguments-invalid"),
        (["--colour", "red"], "arguments-invalid"),
    ],
)
def test_wrong_options_are_told_in_one_sentence(
    pair: Path, staged: Calls, capsys: pytest.CaptureFixture[str], arguments: list[str], code: str
) -> None:
    assert register(pair, "-q", "--no-overview", *arguments) == 2
    shown = capsys.readouterr().err
    assert f"Error ({code})" in shown
    assert arguments[1] in shown or arguments[0] in shown
    assert not staged
    assert not (pair / "out").exists()


def test_an_output_folder_that_cannot_be_written_is_found_before_anything_is_computed(
    pair: Path, staged: Calls, capsys: pytest.CaptureFixture[str]
) -> None:
    (pair / "out").write_text("a file stands here", encoding="utf-8")
    assert register(pair, "-q", "--no-overview") == 2
    assert "Error (output-not-writable)" in capsys.readouterr().err
    assert not staged


@pytest.mark.parametrize(("more", "lines"), [([], 2), (["--debug"], 10)])
def test_a_defect_is_one_line_with_a_hint_and_a_traceback_only_for_those_who_ask(
    pair: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], more: list[str], lines: int
) -> None:
    def fail(**_: Any) -> None:
        raise ZeroDivisionError("staged\nsecond line")

    monkeypatch.setattr(commands, "register", fail)
    assert register(pair, "-q", "--no-overview", *more) == 1
    shown = capsys.readouterr().err
    assert "Error (unexpected): ZeroDivisionError: staged" in shown
    assert "--debug" in shown
    assert ("Traceback" in shown) == bool(more)
    assert (len(shown.splitlines()) >= lines) if more else (len(shown.splitlines()) == lines)
    assert not (pair / "out").exists()


@pytest.mark.parametrize(("absent", "more", "code"), [
    ("rich", [], 2), ("matplotlib", [], 2), ("matplotlib", ["--quiet"], 2), ("rich", ["--quiet"], 0),
    ("rich", ["--quiet", "--no-overview"], 0), ("matplotlib", ["--no-overview"], 0),
])  # fmt: skip
def test_absent_packages_are_named_before_work_begins_unless_nothing_needs_them(
    pair: Path, staged: Calls, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    absent: str, more: list[str], code: int,
) -> None:  # fmt: skip
    for name in [absent, *(name for name in sys.modules if name.startswith(f"{absent}."))]:
        monkeypatch.setitem(sys.modules, name, None)  # now importing it fails, as where it is not installed
    assert register(pair, *more) == code
    if code:
        shown = capsys.readouterr().err
        assert absent in shown
        assert "pip install 'autofuse-engine[cli]'" in shown
        assert not staged


def test_apply_carries_labels_through_a_transform_file(
    pair: Path, staged: Calls, capsys: pytest.CaptureFixture[str]
) -> None:
    assert register(pair, "-q", "--no-overview", f"--moving-labels={pair / 'moving_labels.nrrd'}") == 0
    output = pair / "carried.nii.gz"
    arguments = ["apply", str(pair / "out" / "transform.h5"), str(pair / "moving_labels.nrrd"), "-r",
                 str(pair / "fixed.nii.gz"), "-o", str(output), "--labels"]  # fmt: skip
    assert cli.main(arguments) == 0
    assert str(output) in capsys.readouterr().out
    carried = read_labelmap(output)
    np.testing.assert_array_equal(carried.array, read_labelmap(pair / "out" / "warped_labels.nii.gz").array)


def test_apply_carries_points_against_the_resampling_transform_and_needs_no_reference(
    pair: Path, staged: Calls, capsys: pytest.CaptureFixture[str]
) -> None:
    assert register(pair, "-q", "--no-overview") == 0
    on_fixed = np.array([[-6.0, 2.0, 1.0], [-11.0, 5.0, -7.0]])
    on_moving = read_transform(pair / "out" / "transform.h5").transform_points(on_fixed)
    rows = "".join(f"{x:.9f},{y:.9f},{z:.9f}\n" for x, y, z in on_moving)
    (pair / "moving.csv").write_text("r,a,s\n" + rows, encoding="utf-8")
    paths = [str(pair / "out" / "transform.h5"), str(pair / "moving.csv")]
    assert cli.main(["apply", *paths, "-o", str(pair / "carried.csv"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["report"] == {"kind": "points", "points": 2}
    np.testing.assert_allclose(read_points(pair / "carried.csv").points_ras, on_fixed, atol=1e-3)


def test_landmark_files_reach_the_registration_in_ras(pair: Path, staged: Calls) -> None:
    (pair / "fixed.csv").write_text("l,p,s,label\n1,2,3,nose\n", encoding="utf-8")
    (pair / "moving.csv").write_text("r,a,s\n4,5,6\n", encoding="utf-8")
    points = [f"--{name}-points={pair / name}.csv" for name in ("fixed", "moving")]
    assert register(pair, "-q", "--no-overview", *points) == 0
    np.testing.assert_array_equal(staged[0]["fixed_points_ras"], [[-1, -2, 3]])
    np.testing.assert_array_equal(staged[0]["moving_points_ras"], [[4, 5, 6]])


def test_help_and_version_are_there_for_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    commands_with_help = ["register", "apply", "models list", "models info", "models import", "models delete",
                          "networks", "demo", "benchmark", "worker"]  # fmt: skip
    for command in commands_with_help:
        with pytest.raises(SystemExit) as left:
            cli.main([*command.split(), "--help"])
        assert left.value.code == 0
        assert "--json" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        cli.main(["--version"])
    assert capsys.readouterr().out.strip() == f"autofuse {__version__}"


def test_every_option_has_a_help_text() -> None:
    def walk(parser: argparse.ArgumentParser) -> None:
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                for child in action.choices.values():
                    walk(child)
            else:
                assert action.help, f"{parser.prog}: {action.option_strings or action.dest}"

    walk(cli.build_parser())


@pytest.mark.skipif(sys.platform != "linux", reason="only GNU's OpenMP tells what it was told")
@pytest.mark.parametrize(("given", "found"), [({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE")])
def test_waiting_threads_sleep_unless_the_user_wants_otherwise(given: dict[str, str], found: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    environment |= {"OMP_DISPLAY_ENV": "TRUE", "PYTHONPATH": str(Path(cli.__file__).parents[1]), **given}
    command = [sys.executable, "-m", "autofuse_engine", "networks", "--json"]
    done = subprocess.run(command, env=environment, capture_output=True, encoding="utf-8", timeout=60, check=True)
    assert f"OMP_WAIT_POLICY = '{found}'" in done.stderr


def test_networks_lists_every_network_with_its_parameters(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["networks"]) == 0
    assert "8,748,310" in capsys.readouterr().out
    assert cli.main(["networks", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)["networks"]
    assert {network["name"] for network in listed} == set(NETWORKS)


@pytest.fixture
def model_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AUTOFUSE_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


def test_models_are_imported_listed_shown_and_deleted(
    tmp_path: Path, model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from autofuse_engine.checkpoint import save_checkpoint
    from autofuse_engine.configs import NetworkConfig
    from autofuse_engine.model_card import ModelCard
    from autofuse_engine.networks.build import build_network

    config = NetworkConfig(channels=1)
    weights = save_checkpoint(build_network(config), ModelCard(name="tiny", network=config, title="Tiny"), tmp_path)

    def run(*arguments: str) -> str:
        assert cli.main(["models", *arguments]) == 0
        return capsys.readouterr().out

    run("import", str(weights), "--name", "mine")
    assert "mine" in run("list")
    assert "mine" in run("list", "--quiet").splitlines()
    entry = next(model for model in json.loads(run("list", "--json"))["models"] if model["name"] == "mine")
    assert entry["usable"]
    assert Path(entry["path"]).parent == model_folder
    assert json.loads(run("info", "mine", "--json"))["network"]["channels"] == 1
    assert "network.channels" in run("info", "mine")
    run("delete", "mine")
    assert "mine" not in run("list", "--quiet")
    assert cli.main(["models", "info", "mine"]) == 2
    assert "model-not-found" in capsys.readouterr().err


def test_parse_config_names_the_rule_and_the_value() -> None:
    with pytest.raises(InputError) as caught:
        commands.parse_config({"refinement_steps": "many"})
    assert caught.value.code == "options-invalid"
    with pytest.raises(InputError, match="seeds"):
        commands.parse_config({"seeds": 1})
