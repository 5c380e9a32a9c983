"""What is missing, what the user is asked, and what each outcome of the installation leads to; nothing is installed."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
import types
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

SLICERS_OWN = {"numpy": "2.4.6", "SimpleITK": "2.5.0.dev934+gf9aee"}


class Machine:
    """Slicer's Python as the test wants it: installed versions, the PyTorch extension, and pip."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.monkeypatch = monkeypatch
        self.versions: dict[str, str] = dict(SLICERS_OWN)
        self.torchToInstall: str | None = "2.9.1+cu128"
        self.safetensorsToInstall: str | None = "0.8.0"
        self.torchCalls: list[dict[str, Any]] = []
        self.pipCalls: list[tuple[Any, dict[str, Any]]] = []
        self.constraints: list[str] = []
        self.failure: Exception | None = None
        self.declines = False

    def version(self, name: str) -> str:
        try:
            return self.versions[name]
        except KeyError:
            raise importlib.metadata.PackageNotFoundError(name) from None

    def provideExtension(self) -> None:
        machine = self

        class PyTorchUtilsLogic:
            def installTorch(
                self,
                askConfirmation: bool = False,
                forceComputationBackend: str | None = None,
                torchVersionRequirement: str | None = None,
                torchvisionVersionRequirement: str | None = None,
            ) -> Any:
                return machine.installTorch(ask=askConfirmation, version=torchVersionRequirement)

        fake = types.ModuleType("PyTorchUtils")
        fake.PyTorchUtilsLogic = PyTorchUtilsLogic  # pyright: ignore[reportAttributeAccessIssue]
        self.monkeypatch.setitem(sys.modules, "PyTorchUtils", fake)

    def installTorch(self, **options: Any) -> Any:
        self.torchCalls.append(options)
        self.constraints.append(constraintsOfPip())
        if self.failure is not None:
            raise self.failure
        if self.declines:
            return None
        if self.torchToInstall is not None:
            self.versions["torch"] = self.torchToInstall
        return types.ModuleType("torch")

    def pipInstall(self, requirements: Any, **options: Any) -> None:
        self.pipCalls.append((requirements, options))
        self.constraints.append(constraintsOfPip())
        if self.safetensorsToInstall is not None:
            self.versions["safetensors"] = self.safetensorsToInstall


def constraintsOfPip() -> str:
    """The content of the file that the environment names to pip, read as pip reads it."""
    entry = os.environ["PIP_CONSTRAINT"].split()[-1]
    address = urllib.parse.urlsplit(entry)
    assert address.scheme == "file"
    return Path(urllib.request.url2pathname(address.path)).read_text(encoding="utf-8")


@pytest.fixture
def machine(host: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Machine]:
    import slicer
    import slicer.packaging

    made = Machine(monkeypatch)
    monkeypatch.setattr(importlib.metadata, "version", made.version)
    monkeypatch.setattr(slicer.packaging, "pip_install", made.pipInstall)
    monkeypatch.setattr(slicer.util, "pip_install", made.pipInstall)
    monkeypatch.setitem(sys.modules, "PyTorchUtils", None)
    monkeypatch.delenv("PIP_CONSTRAINT", raising=False)
    for name in ("torch", "safetensors"):  # loaded by tests of the engine, but not in Slicer's own process
        monkeypatch.delitem(sys.modules, name, raising=False)
    slicer.app.temporaryPath = str(tmp_path / "Zwischenlager Größe 5")
    host.setTesting(False)
    yield made
    assert "PIP_CONSTRAINT" not in os.environ
    assert not list((tmp_path / "Zwischenlager Größe 5").glob("*"))


@pytest.mark.parametrize(
    ("versions", "expected"),
    [
        ({}, ["torch", "safetensors"]),
        ({"torch": "2.2.0"}, ["safetensors"]),
        ({"torch": "2.1.2+cu118", "safetensors": "0.4"}, ["torch"]),
        ({"torch": "2.10.0", "safetensors": "0.3.9"}, ["safetensors"]),
        ({"torch": "2.9.0.dev20250901", "safetensors": "0.8.0"}, []),
    ],
)
def test_what_is_missing_follows_from_the_installed_versions(
    machine: Machine, versions: dict[str, str], expected: list[str]
) -> None:
    from AutoFuseLib import Dependencies

    machine.versions.update(versions)
    assert Dependencies.missing() == expected


def test_nothing_of_it_imports_torch_or_runs_at_import() -> None:
    code = """
import sys
sys.path[:0] = [sys.argv[1]]
from Testing.host.session import boot
boot()
from AutoFuseLib import Dependencies, WorkerProcess
Dependencies.missing()
print(sorted({"torch", "safetensors", "PyTorchUtils"} & set(sys.modules)))
"""
    root = str(Path(__file__).resolve().parents[2])
    done = subprocess.run([sys.executable, "-c", code, root], capture_output=True, timeout=120, check=False)
    assert done.stdout.strip() == b"[]", done.stderr


def test_nothing_is_asked_where_nothing_is_missing(machine: Machine, host: Any) -> None:
    from AutoFuseLib import Dependencies

    machine.versions.update(torch="2.4.0", safetensors="0.5.0")
    Dependencies.ensure()
    assert host.messages.texts() == []
    assert machine.torchCalls == machine.pipCalls == []


def test_one_question_names_all_packages_with_their_sizes_and_then_both_are_installed(
    machine: Machine, host: Any
) -> None:
    from AutoFuseLib import Dependencies

    machine.provideExtension()
    host.messages.answer(True)
    Dependencies.ensure()
    (question,) = host.messages.ofKind("okCancel")
    for word in ("PyTorch", "safetensors", "GB", "MB", "internet"):
        assert word in question.text
    assert machine.torchCalls == [{"ask": False, "version": ">=2.2"}]
    ((requirements, options),) = machine.pipCalls
    assert requirements in ("safetensors>=0.4", ["safetensors>=0.4"])
    assert Path(options["constraints"]).name == "constraints.txt"
    assert Dependencies.missing() == []
    assert host.messages.ofKind("yesNo") == host.messages.ofKind("restart") == []


def test_pip_may_not_touch_slicers_own_packages(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    from AutoFuseLib import Dependencies

    machine.provideExtension()
    monkeypatch.setenv("PIP_CONSTRAINT", "file:///of/the/user.txt")
    Dependencies.ensure(ask=False)
    assert machine.constraints == ["numpy==2.4.6\nSimpleITK==2.5.0.dev934+gf9aee\n"] * 2
    assert os.environ.pop("PIP_CONSTRAINT") == "file:///of/the/user.txt"


def test_a_version_that_pip_cannot_read_is_left_out_with_a_warning(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    from AutoFuseLib import Dependencies

    machine.provideExtension()
    machine.versions["SimpleITK"] = "built by hand"
    Dependencies.ensure(ask=False)
    assert set(machine.constraints) == {"numpy==2.4.6\n"}
    assert "built by hand" in caplog.text


def test_the_real_pip_follows_the_constraints_in_a_folder_with_spaces_and_umlauts(host: Any, tmp_path: Path) -> None:
    import slicer

    from AutoFuseLib import Dependencies

    slicer.app.temporaryPath = str(tmp_path / "Zwischenlager Größe 5")
    with Dependencies._keepingSlicersPackages() as path:
        assert " " in str(path)
        options = ["--disable-pip-version-check", "--dry-run", "--no-index"]
        done = subprocess.run(
            [sys.executable, "-m", "pip", "install", *options, "numpy<1"],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=120,
            check=False,
        )
    version = importlib.metadata.version("numpy")
    assert done.returncode != 0
    assert f"(constraint) numpy=={version}" in done.stdout + done.stderr


def test_declining_is_one_sentence_and_installs_nothing(machine: Machine, host: Any) -> None:
    from AutoFuseLib import Dependencies

    machine.provideExtension()
    host.messages.answer(False)
    with pytest.raises(Dependencies.DependencyDeclinedError) as caught:
        Dependencies.ensure()
    assert caught.value.code == "dependencies-declined"
    assert caught.value.text.count(".") == 1
    assert machine.torchCalls == machine.pipCalls == []


def test_declining_a_question_of_the_extension_counts_as_well(machine: Machine) -> None:
    from AutoFuseLib import Dependencies

    machine.provideExtension()
    machine.declines = True
    with pytest.raises(Dependencies.DependencyDeclinedError):
        Dependencies.ensure(ask=False)
    assert machine.pipCalls == []


def test_without_the_extension_the_cure_is_told_before_anything_is_asked(machine: Machine, host: Any) -> None:
    from AutoFuseLib import Dependencies

    with pytest.raises(Dependencies.DependencyError) as caught:
        Dependencies.ensure()
    assert caught.value.code == "pytorch-extension-missing"
    assert "Extensions Manager" in caught.value.hint
    assert "restart" in caught.value.hint
    assert host.messages.texts() == []


def test_safetensors_alone_needs_no_extension(machine: Machine, host: Any) -> None:
    from AutoFuseLib import Dependencies

    machine.versions["torch"] = "2.5.1"
    host.messages.answer(True)
    Dependencies.ensure()
    assert "PyTorch" not in host.messages.ofKind("okCancel")[0].text
    assert len(machine.pipCalls) == 1


def test_a_slicer_without_packaging_installs_through_its_utilities(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    from AutoFuseLib import Dependencies

    machine.versions["torch"] = "2.5.1"
    monkeypatch.setitem(sys.modules, "slicer.packaging", None)
    Dependencies.ensure(ask=False)
    ((requirements, options),) = machine.pipCalls
    assert requirements[:2] == ["safetensors>=0.4", "-c"]
    assert options == {}


@pytest.mark.parametrize(
    "failure", [subprocess.CalledProcessError(1, ["ltt", "install"]), OSError("c10.dll cannot be loaded")]
)
def test_a_failed_installation_is_an_error_with_its_reason(machine: Machine, failure: Exception) -> None:
    from AutoFuseLib import Dependencies

    machine.provideExtension()
    machine.failure = failure
    with pytest.raises(Dependencies.DependencyError) as caught:
        Dependencies.ensure(ask=False)
    assert caught.value.code == "dependencies-not-installed"
    assert type(failure).__name__ in caught.value.text
    assert caught.value.__cause__ is failure
    assert not isinstance(caught.value, Dependencies.DependencyDeclinedError)


@pytest.mark.parametrize(
    ("torch", "safetensors", "named"), [("2.1.2", "0.8.0", "torch"), (None, None, "torch, safetensors")]
)
def test_an_installation_that_leaves_something_too_old_or_absent_is_no_success(
    machine: Machine, torch: str | None, safetensors: str | None, named: str
) -> None:
    from AutoFuseLib import Dependencies

    machine.provideExtension()
    machine.torchToInstall, machine.safetensorsToInstall = torch, safetensors
    with pytest.raises(Dependencies.DependencyError) as caught:
        Dependencies.ensure(ask=False)
    assert caught.value.code == "dependencies-not-installed"
    assert f"({named})" in caught.value.text


@pytest.mark.parametrize("agrees", [True, False])
def test_a_restart_is_offered_only_where_another_module_uses_what_was_replaced(
    machine: Machine, host: Any, monkeypatch: pytest.MonkeyPatch, agrees: bool
) -> None:
    from AutoFuseLib import Dependencies

    machine.provideExtension()
    machine.versions.update(torch="1.13.1", safetensors="0.5.0")
    monkeypatch.setitem(sys.modules, "torch", types.ModuleType("torch"))
    host.messages.answer(True, agrees)
    Dependencies.ensure()
    (offer,) = host.messages.ofKind("yesNo")
    assert "torch" in offer.text
    assert "Unsaved" in offer.text
    assert len(host.messages.ofKind("restart")) == agrees


def test_in_testing_mode_nothing_is_asked_and_nothing_installed(machine: Machine, host: Any) -> None:
    from AutoFuseLib import Dependencies

    machine.provideExtension()
    host.setTesting(True)
    with pytest.raises(Dependencies.DependencyError) as caught:
        Dependencies.ensure()
    assert caught.value.code == "dependencies-missing"
    assert "torch, safetensors" in caught.value.text
    assert host.messages.texts() == []
    assert machine.torchCalls == machine.pipCalls == []
