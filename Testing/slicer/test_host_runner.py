"""The command ``python -m Testing.host``, and what the tests do on a machine that lacks libraries."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TESTS = Path(__file__).parent


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
    variables = {**os.environ, **environment}
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(
        command, cwd=ROOT, env=variables, capture_output=True, text=True, encoding="utf-8", timeout=120, check=False
    )


def test_a_module_is_photographed_and_its_test_run(sample, tmp_path):
    picture = tmp_path / "dunkles bild.png"
    done = run("Testing.host", "--module", str(sample), "--screenshot", str(picture), "--dark", "--expand", "--test")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "passed"
    assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_a_module_whose_test_fails_gives_exit_code_1(sample, tmp_path):
    text = sample.read_text(encoding="utf-8").replace("assert label.sum() == 1", "assert label.sum() == 2")
    ui = tmp_path / "Resources" / "UI" / "HostSample.ui"
    ui.parent.mkdir(parents=True)
    ui.write_bytes((sample.parent / "Resources" / "UI" / "HostSample.ui").read_bytes())
    (tmp_path / "HostSample.py").write_text(text, encoding="utf-8")
    done = run("Testing.host", "--module", str(tmp_path / "HostSample.py"), "--test")
    assert done.returncode == 1
    assert "failed" in done.stdout


LACKING = """
import ctypes, sys
load = ctypes.CDLL
def refuse(name, *rest, **more):
    if name == "libEGL.so.1":
        raise OSError(name)
    return load(name, *rest, **more)
ctypes.CDLL = refuse
import pytest
sys.exit(pytest.main(["-q", "-rs", "-p", "no:cacheprovider", sys.argv[1]]))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the libraries are looked for on Linux only")
@pytest.mark.parametrize(("ci", "code"), [("", 0), ("1", 2)])
def test_a_missing_library_skips_here_and_fails_in_continuous_integration(tmp_path, ci, code):
    script = tmp_path / "lacking.py"
    script.write_text(LACKING, encoding="utf-8")
    variables = {name: value for name, value in os.environ.items() if name != "CI"} | ({"CI": ci} if ci else {})
    command = [sys.executable, str(script), str(TESTS / "test_host_files.py")]
    done = subprocess.run(
        command, cwd=ROOT, env=variables, capture_output=True, text=True, encoding="utf-8", timeout=120, check=False
    )
    assert "sudo apt install libegl1" in done.stdout
    assert done.returncode in ((0, 5) if code == 0 else (code,)), done.stdout


def test_the_host_sets_only_environment_variables_when_it_is_imported():
    code = "import sys, Testing.host, Testing.host.fixtures; print('PySide6' in sys.modules, 'slicer' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
    assert done.stdout.split() == ["False", "False"], done.stderr


def test_the_host_refuses_a_process_where_pyside_is_loaded_already():
    code = "import PySide6, Testing.host"
    variables = {name: value for name, value in os.environ.items() if not name.startswith("PYSIDE6")}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=variables,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "import the host first" in done.stderr


def test_a_wrong_slicer_source_is_named(sample):
    done = run("Testing.host", "--module", str(sample), AUTOFUSE_SLICER_SOURCE=str(TESTS))
    assert done.returncode == 1
    assert "holds no Base/Python/slicer/ScriptedLoadableModule.py" in done.stderr
