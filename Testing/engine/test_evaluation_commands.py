"""``autofuse evaluate`` as a user types it: files, exit codes, and one sentence with a cure for each mistake."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from autofuse_engine.cli import main
from autofuse_engine.evaluation_rows import read_rows
from Testing.engine.data.prepared_folder import make_prepared


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_prepared(tmp_path_factory.mktemp("vorbereitet ä") / "set", train=1, validation=2).folder


def test_a_comparison_ends_with_its_files_named(
    prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "Ergebnisse ö"
    arguments = ["evaluate", str(prepared), "--method", "none", "--method", "affine@as=Start", "--out", str(out)]
    assert main([*arguments, "--pairs", "1", "--device", "cpu"]) == 0
    told = capsys.readouterr()
    assert "Start" in told.out
    assert "pairs.csv" in told.out
    assert "pair 1 of 1: Start" in told.err
    assert main([*arguments, "--all-pairs", "--device", "cpu", "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["status"] == "ok"
    assert content["report"]["rows"] == 4
    assert content["report"]["failed"] == 0
    assert all(Path(path).is_file() for path in content["files"].values())
    assert {row.method for row in read_rows(out)} == {"none", "Start"}


def test_where_every_registration_fails_the_exit_code_says_so(
    prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = make_prepared(tmp_path / "set", train=0, validation=2)
    for case in broken.cases:
        path = broken.folder / case.image.file
        path.write_bytes(b"x" * path.stat().st_size)
    out = tmp_path / "out"
    assert main(["evaluate", str(broken.folder), "--method", "none", "--out", str(out), "--quiet"]) == 2
    told = capsys.readouterr().err
    assert "Error (evaluation-failed): Every registration failed (2)" in told
    assert "--retry-failed" in told
    assert all(row.error for row in read_rows(out))


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--method", "affine@refine=3"], "method-invalid"),
        (["--method", "none", "--method", "none"], "method-duplicate"),
        (["--method", "no-such-model"], "model-not-found"),
        (["--method", "none", "--pairs", "0"], "options-invalid"),
        (["--method", "none", "--pairs", "2", "--all-pairs"], "options-invalid"),
        (["--method", "none", "--threads", "0"], "options-invalid"),
        (["--method", "none", "--device", "tpu"], "device-unknown"),
        (["--method", "none", "--split", "test"], "pairs-too-few"),
        (["--method", "none", "--kind", "listed"], "pairs-too-few"),
        ([], "arguments-invalid"),
    ],
)
def test_a_mistake_is_one_sentence_with_a_cure(
    prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: str
) -> None:
    out = tmp_path / "out"
    assert main(["evaluate", str(prepared), "--out", str(out), "--json", *arguments]) == 2
    told = capsys.readouterr()
    error = json.loads(told.out)["error"]
    assert error["code"] == code
    assert error["hint"]
    assert not out.exists()
