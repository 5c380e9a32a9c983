"""Stand-ins have only names that the real class offers to Python: checked against the headers of Slicer and CTK.

Runs where AUTOFUSE_SLICER_SOURCE and AUTOFUSE_CTK_SOURCE name source checkouts.
"""

from __future__ import annotations

import os
import re
from functools import cache
from pathlib import Path

import pytest

SOURCES = [Path(os.environ[name]) for name in ("AUTOFUSE_SLICER_SOURCE", "AUTOFUSE_CTK_SOURCE") if os.environ.get(name)]
pytestmark = pytest.mark.skipif(len(SOURCES) < 2, reason="AUTOFUSE_SLICER_SOURCE and AUTOFUSE_CTK_SOURCE are not set")

VIRTUALS_OF_QT = {"paintEvent", "eventFilter", "setVisible", "hitButton", "closeEvent", "createWidget", "load"}
RENAMED = {"qSlicerIOManager": "qSlicerCoreIOManager"}
SECTION = r"(?:public slots|public Q_SLOTS|signals|Q_SIGNALS)\s*:(.*?)(?=\n\w[\w ]*:\s*\n|\Z)"
ADDED_BY_SLICERS_PYTHON = {"testingEnabled", "processEvents"}
"""Members of ``slicer.app`` that no header declares and that Slicer's own Python code calls."""


@cache
def header(name: str) -> str:
    for source in SOURCES:
        for path in source.rglob(f"{name}.h"):
            return re.sub(r"//[^\n]*|/\*.*?\*/", "", path.read_text(encoding="utf-8", errors="replace"), flags=re.S)
    return ""


def bases(name: str) -> list[str]:
    found = re.search(rf"class\s+(?:\w+_EXPORT\s+)?{name}\s*:\s*([^{{]*)\{{", header(name))
    return re.findall(r"public\s+(?:virtual\s+)?(\w+)", found.group(1)) if found else []


def offered(name: str) -> set[str]:
    """Names that PythonQt sees: properties, signals, public slots, invokables and enum values, also of base classes."""
    text = header(name)
    names = set(re.findall(r"Q_PROPERTY\(\s*[\w:<>,\s\*]+?\s(\w+)\s+READ", text))
    names |= set(re.findall(r"Q_INVOKABLE[^;{(]*?(\w+)\s*\(", text))
    for section in re.findall(
        r"(?:public slots|public Q_SLOTS|signals|Q_SIGNALS)\s*:(.*?)(?=\n\w[\w ]*:\s*\n|\Z)", text, re.S
    ):
        names |= set(re.findall(r"(\w+)\s*\(", section))
    for values in re.findall(r"enum\s+\w*\s*\{(.*?)\}", text, re.S):
        names |= {value.split("=")[0].strip() for value in values.split(",")}
    for base in bases(name):
        names |= offered(base)
    for source in SOURCES:
        for path in source.rglob("*PythonQtDecorators.h"):
            names |= set(re.findall(rf"(\w+)\({name}\s*\*", path.read_text(encoding="utf-8")))
    return names


def standInNames() -> list[str]:
    """Found in the host's files, so that nothing has to be started while tests are collected."""
    files = (Path(__file__).resolve().parents[1] / "host").glob("*.py")
    text = "\n".join(path.read_text(encoding="utf-8") for path in files)
    return re.findall(r"@declare\((?:ctk|slicer)\)\nclass (\w+)", text)


@pytest.mark.parametrize("name", standInNames())
def test_a_stand_in_has_only_names_of_the_real_class(host, name):
    import ctk
    import slicer

    cls = getattr(ctk, name, None) if name.startswith("ctk") else getattr(slicer, name)
    real = RENAMED.get(name, name)
    assert header(real), f"no header {real}.h"
    own = {member for kind in cls.__mro__ if kind.__module__.startswith("Testing.host") for member in vars(kind)}
    public = {member for member in own if not member.startswith("_")} - VIRTUALS_OF_QT - {"staticMetaObject"}
    allowed = offered(real) | (ADDED_BY_SLICERS_PYTHON if name == "qSlicerApplication" else set())
    assert public <= allowed, sorted(public - allowed)


def test_a_stand_in_derives_from_the_same_class_of_qt(host):
    import ctk
    import qt

    for name in [name for name in standInNames() if name.startswith("ctk")]:
        real = name
        while real.startswith("ctk"):
            real = bases(real)[0]
        assert getattr(qt, real) in getattr(ctk, name).__mro__, (name, real)
