"""The models at hand: found by name or path, imported whole, never overwritten or deleted by accident."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from autofuse_engine import catalog
from autofuse_engine.configs import NetworkConfig
from autofuse_engine.errors import FileError, ModelError
from autofuse_engine.model_card import ModelCard, WeightsFile, card_text, is_model_name

# The catalog never opens weights, so any bytes will do.
DATA = bytes(range(256)) * 17


def write_model(folder: Path, name: str, data: bytes = DATA) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    identity = WeightsFile(sha256=hashlib.sha256(data).hexdigest(), size_bytes=len(data))
    card = ModelCard(name=name, title=f"The {name}", network=NetworkConfig(channels=2), weights=identity)
    (folder / f"{name}.json").write_text(card_text(card), encoding="utf-8")
    weights = folder / f"{name}.safetensors"
    weights.write_bytes(data)
    return weights


@pytest.fixture(autouse=True)
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's folder; it does not exist yet."""
    folder = tmp_path / "Benutzer mit Umlauten äöü" / "models"
    monkeypatch.setenv("AUTOFUSE_MODELS", str(folder))
    monkeypatch.setattr(catalog, "SHIPPED_FOLDER", (tmp_path / "shipped").resolve())
    return folder


@pytest.fixture
def shipped(user: Path) -> Path:
    return write_model(catalog.SHIPPED_FOLDER, "shipped-brain")


def code_of(function: object, *arguments: object, **options: object) -> str:
    assert callable(function)
    with pytest.raises((ModelError, FileError)) as caught:
        function(*arguments, **options)
    assert caught.value.text.endswith(".")
    assert caught.value.hint
    return caught.value.code


def test_without_any_model_the_list_is_empty_and_nothing_is_created(user: Path) -> None:
    assert catalog.list_models() == []
    assert catalog.size_on_disk() == 0
    assert not user.exists()


def test_the_list_shows_shipped_models_first_and_then_the_users(user: Path, shipped: Path) -> None:
    write_model(user, "abdomen")
    assert [(entry.name, entry.shipped) for entry in catalog.list_models()] == [
        ("shipped-brain", True),
        ("abdomen", False),
    ]


def test_sizes_count_weights_and_cards_of_the_user_only(user: Path, shipped: Path) -> None:
    weights = write_model(user, "abdomen")
    expected = len(DATA) + len(weights.with_suffix(".json").read_bytes())
    assert catalog.find("abdomen").size_bytes == expected
    assert catalog.size_on_disk() == expected


def test_damaged_models_stay_visible_with_their_problem(user: Path) -> None:
    write_model(user, "no-weights").unlink()
    write_model(user, "no-card").with_suffix(".json").write_text("?", encoding="utf-8")
    problems = {entry.name: (entry.card, entry.problem) for entry in catalog.list_models()}
    assert problems["no-weights"][0] is None
    assert "no-weights.safetensors" in problems["no-weights"][1]
    assert "not JSON" in problems["no-card"][1]


def test_temporary_files_are_not_models(user: Path) -> None:
    write_model(user, "abdomen")
    (user / ".autofuse-0123.json").write_text("{}", encoding="utf-8")
    assert [entry.name for entry in catalog.list_models()] == ["abdomen"]


def test_a_model_is_found_by_name_and_by_the_path_of_either_file(user: Path, shipped: Path) -> None:
    assert catalog.find("shipped-brain").weights_path == shipped
    for path in (shipped, str(shipped), shipped.with_suffix(".json"), shipped.with_suffix("")):
        entry = catalog.find(path)
        assert entry.weights_path == shipped
        assert entry.card is not None
        assert entry.card.title == "The shipped-brain"


def test_a_name_with_dots_is_a_name(user: Path) -> None:
    weights = write_model(user, "brain.v1.2")
    assert catalog.find("brain.v1.2").weights_path == weights
    assert catalog.find(user / "brain.v1.2").weights_path == weights


def test_a_misspelt_name_gets_the_closest_ones_suggested(user: Path, shipped: Path) -> None:
    write_model(user, "abdomen")
    with pytest.raises(ModelError) as caught:
        catalog.find("Shiped-Brain")
    assert caught.value.code == "model-not-found"
    assert caught.value.hint == "Did you mean shipped-brain?"


def test_an_unlike_name_gets_all_names_and_without_models_the_way_to_get_some(user: Path) -> None:
    with pytest.raises(ModelError, match="autofuse models import"):
        catalog.find("zzz")
    write_model(user, "abdomen")
    with pytest.raises(ModelError, match=r"The models at hand are abdomen\."):
        catalog.find("zzz")


def test_paths_that_lead_nowhere_and_pickles_are_refused(tmp_path: Path) -> None:
    assert code_of(catalog.find, tmp_path / "absent.safetensors") == "model-not-found"
    assert code_of(catalog.find, "absent.pt") == "model-unsafe-format"
    assert code_of(catalog.find, "") == "model-not-found"


def test_a_damaged_card_is_refused_when_the_model_is_asked_for(user: Path) -> None:
    write_model(user, "abdomen").with_suffix(".json").write_text("?", encoding="utf-8")
    assert code_of(catalog.find, "abdomen") == "model-card-invalid"


def test_info_holds_the_card_and_the_place_and_is_json(user: Path) -> None:
    weights = write_model(user, "abdomen")
    facts = json.loads(json.dumps(catalog.info("abdomen")))
    assert facts["title"] == "The abdomen"
    assert facts["network"]["channels"] == 2
    assert facts["path"] == str(weights)
    assert facts["shipped"] is False
    assert facts["size_on_disk"] > len(DATA)


def test_verify_passes_a_whole_model_and_refuses_a_damaged_one(user: Path) -> None:
    weights = write_model(user, "abdomen")
    assert catalog.verify("abdomen").name == "abdomen"
    weights.write_bytes(DATA[:-1] + b"!")
    assert code_of(catalog.verify, "abdomen") == "model-checksum"
    weights.write_bytes(DATA[:-1])
    assert code_of(catalog.verify, "abdomen") == "model-truncated"


def test_an_import_copies_both_files_and_leaves_the_source(user: Path, tmp_path: Path) -> None:
    source = write_model(tmp_path / "download", "abdomen")
    entry = catalog.import_model(source)
    assert entry.weights_path == user / "abdomen.safetensors"
    assert entry.weights_path.read_bytes() == DATA
    assert source.is_file()
    assert sorted(path.name for path in user.iterdir()) == ["abdomen.json", "abdomen.safetensors"]


def test_an_import_under_another_name_renames_the_card_too(user: Path, tmp_path: Path) -> None:
    catalog.import_model(write_model(tmp_path / "download", "abdomen").with_suffix(".json"), "liver")
    entry = catalog.verify("liver")
    assert entry.card is not None
    assert (entry.name, entry.card.name, entry.card.title) == ("liver", "liver", "The abdomen")


def test_an_import_overwrites_only_when_told(user: Path, tmp_path: Path) -> None:
    write_model(user, "abdomen", b"old")
    source = write_model(tmp_path / "download", "abdomen")
    assert code_of(catalog.import_model, source) == "model-exists"
    assert catalog.verify("abdomen").weights_path.read_bytes() == b"old"
    catalog.import_model(source, overwrite=True)
    assert catalog.verify("abdomen").weights_path.read_bytes() == DATA


def test_the_name_of_a_shipped_model_cannot_be_taken(user: Path, shipped: Path, tmp_path: Path) -> None:
    source = write_model(tmp_path / "download", "shipped-brain")
    assert code_of(catalog.import_model, source, overwrite=True) == "model-exists"


def test_a_damaged_model_is_not_imported(user: Path, tmp_path: Path) -> None:
    source = write_model(tmp_path / "download", "abdomen")
    source.write_bytes(DATA[:-1] + b"!")
    assert code_of(catalog.import_model, source) == "model-checksum"
    assert not user.exists()


def test_an_import_that_fails_halfway_leaves_no_file(
    user: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_model(tmp_path / "download", "abdomen")

    def fail(source: Path, target: Path) -> None:
        target.write_bytes(DATA[:100])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(catalog.shutil, "copyfile", fail)
    assert code_of(catalog.import_model, source) == "output-not-writable"
    assert list(user.iterdir()) == []


@pytest.mark.parametrize("name", ["", "a/b", "..", ".hidden", "con", "COM1.x", "end.", "x" * 65, "two words", "größe"])
def test_names_that_some_platform_cannot_store_are_refused(user: Path, tmp_path: Path, name: str) -> None:
    assert not is_model_name(name)
    assert code_of(catalog.import_model, write_model(tmp_path / "download", "abdomen"), name) == "model-name"


def test_deleting_removes_both_files_of_a_users_model_only(user: Path, shipped: Path) -> None:
    write_model(user, "abdomen")
    write_model(user, "liver")
    assert catalog.delete_model("abdomen").name == "abdomen"
    assert sorted(path.name for path in user.iterdir()) == ["liver.json", "liver.safetensors"]
    assert code_of(catalog.delete_model, "abdomen") == "model-not-found"
    assert code_of(catalog.delete_model, "shipped-brain") == "model-shipped"
    assert shipped.is_file()


def test_a_damaged_model_can_be_deleted(user: Path) -> None:
    write_model(user, "abdomen").with_suffix(".json").write_text("?", encoding="utf-8")
    catalog.delete_model("abdomen")
    assert list(user.iterdir()) == []


@pytest.mark.parametrize(
    ("platform", "environment", "expected"),
    [
        ("linux", {}, ".local/share/AutoFuse/models"),
        ("linux", {"XDG_DATA_HOME": "data"}, "data/AutoFuse/models"),
        ("darwin", {"XDG_DATA_HOME": "data"}, "Library/Application Support/AutoFuse/models"),
        ("win32", {"LOCALAPPDATA": "Local"}, "Local/AutoFuse/models"),
        ("win32", {}, "AppData/Local/AutoFuse/models"),
        ("linux", {"AUTOFUSE_MODELS": "mine"}, "mine"),
    ],
)
def test_the_users_folder_follows_the_platform(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, platform: str, environment: dict[str, str], expected: str
) -> None:
    for variable in ("AUTOFUSE_MODELS", "XDG_DATA_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(variable, raising=False)
    for variable, folder in environment.items():
        monkeypatch.setenv(variable, str(tmp_path / folder))
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    assert catalog.user_folder() == tmp_path / expected


def test_the_catalog_needs_nothing_but_the_standard_library() -> None:
    code = "import sys; sys.modules.update(torch=None, numpy=None, safetensors=None); import autofuse_engine.catalog"
    root = Path(catalog.__file__).resolve().parents[1]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, timeout=60)
