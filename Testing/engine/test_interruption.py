"""Ctrl-C in a real process: once asks, twice stops, and neither leaves anything partial."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autofuse_engine.data.files import write_volume
from autofuse_engine.data.volume import Volume

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def pair(tmp_path: Path) -> Path:
    """A folder with a pair of images and the result of an earlier run."""
    random = np.random.default_rng(5)
    matrix = np.array([[0, -2.0, 0, 5], [1.5, 0, 0, -8], [0, 0, -3.0, 11], [0, 0, 0, 1]])
    for name, shape in (("fixed", (10, 12, 9)), ("moving", (11, 8, 13))):
        write_volume(tmp_path / f"{name}.nii.gz", Volume(array=random.random(shape, np.float32), ras_from_ijk=matrix))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "warped.nii.gz").write_text("earlier", encoding="utf-8")
    return tmp_path


def run_staged(pair: Path, behaviour: str, interrupts: Sequence[Callable[[subprocess.Popen[str]], None]]) -> Any:
    script = Path(__file__).with_name("staged_cli.py")
    images = [str(pair / "fixed.nii.gz"), str(pair / "moving.nii.gz")]
    command = [
        sys.executable,
        str(script),
        behaviour,
        "register",
        *images,
        "-o",
        str(pair / "out"),
        "-q",
        "--no-overview",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8",
                          env={**os.environ, "PYTHONPATH": str(ROOT)}) as process:  # fmt: skip
        if process.stdout is None or process.stderr is None:
            raise RuntimeError("no pipes")
        try:
            assert process.stdout.readline().strip() == "registering"
            said = ""
            for interrupt in interrupts:
                interrupt(process)
                if "again" not in said:
                    said += process.stderr.readline() + process.stderr.readline()
            process.wait(timeout=20)
            return process.returncode, said + process.stderr.read()
        finally:
            process.kill()


@pytest.mark.skipif(sys.platform == "win32", reason="a console signal cannot be sent to one child on Windows")
@pytest.mark.parametrize(("behaviour", "signals"), [("polite", 1), ("deaf", 2)])
def test_ctrl_c_keeps_the_earlier_run_and_leaves_nothing_partial(pair: Path, behaviour: str, signals: int) -> None:
    code, said = run_staged(pair, behaviour, [lambda process: process.send_signal(signal.SIGINT)] * signals)
    assert code == 130
    assert "press Ctrl-C again" in said
    assert "cancelled" in said
    assert "Traceback" not in said
    assert [path.name for path in (pair / "out").iterdir()] == ["warped.nii.gz"]
    assert (pair / "out" / "warped.nii.gz").read_text(encoding="utf-8") == "earlier"
