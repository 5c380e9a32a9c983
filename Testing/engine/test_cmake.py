"""Every file that belongs into the installed extension stands in a CMake list, and nothing else does.

A file that is missing from a list configures, builds and installs without a word, and is simply absent.
"""

from __future__ import annotations

import json
import re
import struct
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
INSTALLED_SUFFIXES = {".py", ".json", ".safetensors", ".ui", ".png"}
INSTALLED_FOLDERS = [
    name
    for name in ("autofuse_engine", "AutoFuseLib", "AutoFuseRegistration", "AutoFuseTraining")
    if (ROOT / name).is_dir()
]


def without_comments(text: str) -> str:
    return re.sub(r"#.*", "", text)


def listed_files(folder: Path) -> list[str]:
    """Entries of the lists ``MODULE_PYTHON_SCRIPTS`` and ``MODULE_PYTHON_RESOURCES``, variables replaced."""
    text = without_comments((folder / "CMakeLists.txt").read_text(encoding="utf-8"))
    found = re.search(r"set\(MODULE_NAME\s+(\w+)\s*\)", text)
    name = found.group(1) if found else ""
    entries: list[str] = []
    for variable in ("MODULE_PYTHON_SCRIPTS", "MODULE_PYTHON_RESOURCES"):
        lists = re.findall(rf"set\({variable}\b([^)]*)\)", text)
        assert len(lists) == 1, f"{folder.name} sets {variable} {len(lists)} times"
        entries += [entry.replace("${MODULE_NAME}", name) for entry in lists[0].split()]
    return entries


def files_in(folder: Path) -> set[str]:
    skipped = {"__pycache__", "Testing"}
    return {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.suffix in INSTALLED_SUFFIXES and not skipped & set(path.relative_to(folder).parts)
    }


@pytest.mark.parametrize("name", INSTALLED_FOLDERS)
class TestEveryInstalledFolder:
    def test_its_list_names_each_file_once(self, name: str) -> None:
        listed, present = listed_files(ROOT / name), files_in(ROOT / name)
        assert len(listed) == len(set(listed))
        assert present - set(listed) == set(), "not in the CMake list, so never installed"
        assert set(listed) - present == set(), "in the CMake list, but there is no such file"

    def test_python_files_are_scripts_and_others_resources(self, name: str) -> None:
        text = without_comments((ROOT / name / "CMakeLists.txt").read_text(encoding="utf-8"))
        scripts = re.findall(r"set\(MODULE_PYTHON_SCRIPTS\b([^)]*)\)", text)[0].split()
        resources = re.findall(r"set\(MODULE_PYTHON_RESOURCES\b([^)]*)\)", text)[0].split()
        assert scripts
        assert all(entry.endswith(".py") for entry in scripts)
        assert not [entry for entry in resources if entry.endswith(".py")]
        assert "slicerMacroBuildScriptedModule(" in text
        assert "${MODULE_PYTHON_SCRIPTS}" in text
        assert "${MODULE_PYTHON_RESOURCES}" in text

    def test_the_top_level_list_enters_it(self, name: str) -> None:
        text = without_comments((ROOT / "CMakeLists.txt").read_text(encoding="utf-8"))
        assert f"add_subdirectory({name})" in text


@pytest.mark.parametrize("name", [name for name in INSTALLED_FOLDERS if name in ("autofuse_engine", "AutoFuseLib")])
def test_libraries_keep_their_own_folder(name: str) -> None:
    assert "WITH_SUBDIR" in without_comments((ROOT / name / "CMakeLists.txt").read_text(encoding="utf-8"))


def test_slicers_extension_wizard_finds_its_mark() -> None:
    assert "## NEXT_MODULE" in (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")


def test_metadata_that_the_extensions_index_reads_is_one_quoted_line_each() -> None:
    text = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
    for name in ("HOMEPAGE", "CATEGORY", "CONTRIBUTORS", "DESCRIPTION", "ICONURL", "SCREENSHOTURLS", "DEPENDS"):
        assert re.search(rf'^set\(EXTENSION_{name} "[^"\n]+"\)$', text, re.MULTILINE), name
    assert re.search(r'^set\(EXTENSION_DEPENDS "PyTorch"\)$', text, re.MULTILINE)


def test_the_entry_of_the_extensions_index_agrees_with_the_metadata() -> None:
    entry = json.loads((ROOT / "AutoFuse.json").read_text(encoding="utf-8"))
    text = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
    assert "project(AutoFuse)" in text
    assert entry["build_dependencies"] == ["PyTorch"]
    assert f'set(EXTENSION_CATEGORY "{entry["category"]}")' in text
    assert f'set(EXTENSION_HOMEPAGE "{entry["scm_url"].removesuffix(".git")}")' in text
    assert b"\r" not in (ROOT / "AutoFuse.json").read_bytes()


@pytest.mark.parametrize("name", ["ICONURL", "SCREENSHOTURLS"])
def test_pictures_that_the_metadata_name_are_in_the_repository(name: str) -> None:
    text = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
    homepage = re.search(r'EXTENSION_HOMEPAGE "https://github.com/([^"]+)"', text)
    (address,) = re.findall(rf'EXTENSION_{name} "([^"]+)"', text)
    assert homepage
    path = address.removeprefix(f"https://raw.githubusercontent.com/{homepage.group(1)}/main/")
    content = (ROOT / path).read_bytes()
    width, height = struct.unpack(">II", content[16:24])
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    assert (width, height) == (128, 128) if name == "ICONURL" else width >= 800
