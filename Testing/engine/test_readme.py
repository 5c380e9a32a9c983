"""The README keeps its word: every error code is explained, every marked command runs, every link leads somewhere."""

from __future__ import annotations

import ast
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from autofuse_engine.model_fit import DOUBT_CODES

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
ERROR_CLASSES = {
    "AutoFuseError", "InputError", "FileError", "ModelError", "DeviceError", "DependencyError",
    "DependencyDeclinedError", "_UnexpectedError",
}  # fmt: skip
SOURCE_FOLDERS = ("autofuse_engine", "AutoFuseLib", "AutoFuseRegistration", "AutoFuseTraining")
TESTED_BLOCK = re.compile(r"<!-- tested -->\n```(sh|python)\n(.*?)```", re.DOTALL)


def code_arguments(tree: ast.AST) -> list[ast.expr]:
    """Expressions that give the code of an error or a warning event."""
    found: list[ast.expr] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            if node.func.id in ERROR_CLASSES and node.args:
                found.append(node.args[0])
            elif node.func.id in ("Warning", "Error"):
                found += [keyword.value for keyword in node.keywords if keyword.arg == "code"]
    return found


def constants(expression: ast.expr) -> list[str]:
    branches = [expression.body, expression.orelse] if isinstance(expression, ast.IfExp) else [expression]
    return [branch.value for branch in branches if isinstance(branch, ast.Constant) and isinstance(branch.value, str)]


def codes_in_source() -> set[str]:
    codes = {"cancelled", *DOUBT_CODES}  # CancelledError sets its own; doubts of a model come with their code
    for path in sorted(path for folder in SOURCE_FOLDERS for path in (ROOT / folder).rglob("*.py")):
        for expression in code_arguments(ast.parse(path.read_text(encoding="utf-8"))):
            codes.update(constants(expression))
    return codes


def codes_in_table() -> list[str]:
    section = README.split("## When something goes wrong", 1)[1].split("\n## ", 1)[0]
    rows = re.findall(r"^\| (`[^|]+`) \|", section, re.MULTILINE)
    return [code for row in rows for code in re.findall(r"`([a-z0-9-]+)`", row)]


def test_the_table_of_codes_has_every_code_of_engine_and_modules_once_and_no_other() -> None:
    table = codes_in_table()
    assert len(table) == len(set(table))
    source = codes_in_source()
    assert "file-not-found" in source
    assert source - set(table) == set(), "in the source, not in the README"
    assert set(table) - source == set(), "in the README, not in the source"


def test_codes_are_short_words_joined_by_hyphens() -> None:
    assert not [code for code in codes_in_source() if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", code)]


def test_links_to_files_of_the_project_lead_somewhere() -> None:
    targets = [target for target in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in target]
    assert targets
    assert not [target for target in targets if not (ROOT / target).exists()]


def test_the_two_commands_exist_and_ci_runs_the_second() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in ("demo", "test"):
        assert f"make {target}" in README
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)
    assert "make test" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def words_of(line: str) -> list[str]:
    words = shlex.split(line, comments=True)
    if words and words[0] != "autofuse":
        raise AssertionError(f"the README marks a command of another program as tested: {line}")
    return [sys.executable, "-m", "autofuse_engine", *words[1:]] if words else []


@pytest.mark.slow
def test_marked_commands_and_programs_run_as_they_stand(tmp_path: Path) -> None:
    """All of them in one folder, in the order of the README; the first one leaves the pair that the others use."""
    blocks = TESTED_BLOCK.findall(README)
    assert {language for language, _ in blocks} == {"sh", "python"}
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "AUTOFUSE_MODELS": str(tmp_path / "models")}
    for language, text in blocks:
        lines = text.replace("\\\n", " ").splitlines()
        commands = [words_of(line) for line in lines] if language == "sh" else [[sys.executable, "-c", text]]
        for words in filter(None, commands):
            done = subprocess.run(
                words, cwd=tmp_path, env=environment, capture_output=True, encoding="utf-8", timeout=600, check=False
            )
            assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
    assert (tmp_path / "demo" / "overview.png").exists()
