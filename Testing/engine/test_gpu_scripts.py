"""The scripts that train on rented machines, on the CPU and tiny: pieces go on, parts fit, sizes hold."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from autofuse_engine.checkpoint import load_checkpoint
from autofuse_engine.run_folder import RunFolder, read_cells
from autofuse_engine.training_state import read_state
from Testing.engine.training_runs import tiny_dataset
from Testing.gpu.compact_state import compact, expand
from Testing.gpu.parcels import join, pack, split, unpack
from Testing.gpu.profile_step import profile
from Testing.gpu.recipes import RECIPES, recipe_config
from Testing.gpu.train_model import changed, make_model, receive, shortened, table, train_piece

ROOT = Path(__file__).resolve().parents[2]
TINY = ("network.channels=2", "validation_every=2", "validation_pairs=1")


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared Maß")
    size = pack(tiny_dataset(folder), folder.parent / "tiny.tar.xz")
    assert size == (folder.parent / "tiny.tar.xz").stat().st_size
    return folder.parent / "tiny.tar.xz"


@pytest.mark.slow
def test_a_second_machine_goes_on_where_the_first_stopped(packed: Path, tmp_path: Path) -> None:
    first = tmp_path / "out 1"
    train_piece("contrast", packed, first, work=tmp_path / "a", device="cpu", steps=2, changes=TINY)
    # The second machine is given the whole schedule; the first one had three steps of it.
    second = tmp_path / "out 2"
    changes = ("stages.0.steps=3", "stages.1.steps=1")
    result = train_piece("contrast", packed, second, state=first, work=tmp_path / "b", device="cpu", changes=changes)
    assert result.finished
    run = RunFolder(tmp_path / "b" / "run")
    assert [row["step"] for row in read_cells(run.metrics)] == ["1", "2", "3", "4"]
    assert [row["step"] for row in read_cells(run.validation)] == ["0", "2", "3", "4"]
    assert "dice_synthesised" in table(run)
    home = RunFolder(tmp_path / "home" / "run")
    assert receive(second, home)
    model = load_checkpoint(make_model("contrast", home, tmp_path / "models", None))
    assert model.card.weights is not None
    assert model.card.weights.storage == "float16"
    assert model.card.intended_use.body_part == "brain"
    before, after = (read_state(one.last)[0] for one in (run, home))
    assert before.keys() == after.keys()


@pytest.mark.slow
def test_training_needs_no_simpleitk(packed: Path, tmp_path: Path) -> None:
    """Rented machines may lack it. Minutes 0: the run stops before its first step."""
    program = f"""
import sys
sys.modules["SimpleITK"] = None
from pathlib import Path
from Testing.gpu.train_model import train_piece
here = Path({str(tmp_path)!r})
result = train_piece("brain-semi", Path({str(packed)!r}), here / "out", work=here / "work", minutes=0, device="cpu",
                     changes={TINY!r})
assert result.step == 0 and not result.finished
"""
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, timeout=300)
    assert (tmp_path / "out" / "run.00").exists()


def test_a_compact_checkpoint_is_near_the_whole_one(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(2)
    moment = torch.exp(torch.randn(40, 30, 3, 3, 3, generator=generator) * 4 - 20)
    moment[0] = 0
    tensors = {
        "network.w": torch.randn(40, 30, 3, 3, 3, generator=generator) * 0.05,
        "optimizer.step.w": torch.tensor(1234.0),
        "optimizer.exp_avg.w": torch.randn(40, 30, 3, 3, 3, generator=generator),
        "optimizer.exp_avg_sq.w": moment,
        "network.never_learned": torch.ones(3),
    }
    save_file(tensors, tmp_path / "whole", {"autofuse": json.dumps({"format": 1, "place": {"step": 1234}})})
    compact(tmp_path / "whole", tmp_path / "small")
    expand(tmp_path / "small", tmp_path / "back" / "last")
    back = load_file(tmp_path / "back" / "last")
    assert back.keys() == tensors.keys()
    assert torch.allclose(back["network.w"], tensors["network.w"], rtol=1e-3, atol=1e-6)
    assert float(back["optimizer.step.w"]) == 1234
    assert float(back["optimizer.exp_avg.w"].abs().max()) == 0
    found = back["optimizer.exp_avg_sq.w"]
    assert float(found[0].abs().max()) == 0
    ratio = (found[1:] / moment[1:]).sqrt()  # steps are divided by the square root
    assert 0.95 < float(ratio.min()) <= float(ratio.max()) < 1.05
    assert read_state(tmp_path / "back" / "last")[1]["place"]["step"] == 1234
    weights = tensors["network.w"].numel()
    assert (tmp_path / "small").stat().st_size < 3.1 * weights + 2000
    assert (tmp_path / "whole").stat().st_size > 12 * weights


def test_parts_make_the_file_again(tmp_path: Path) -> None:
    data = bytes(range(251)) * 41
    (tmp_path / "file").write_bytes(data)
    parts = split(tmp_path / "file", tmp_path / "out", "run", part_bytes=1000)
    assert [part.name for part in parts[:2]] == ["run.00", "run.01"]
    assert len(parts) == 11
    assert max(part.stat().st_size for part in parts) == 1000
    assert join(tmp_path / "out", "run", tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == data
    (tmp_path / "file").write_bytes(data[:1500])
    assert len(split(tmp_path / "file", tmp_path / "out", "run", part_bytes=1000)) == 2
    assert len(list((tmp_path / "out").iterdir())) == 2, "parts of the longer file are gone"
    (tmp_path / "out" / "run.00").unlink()
    with pytest.raises(ValueError, match="without a gap"):
        join(tmp_path / "out", "run", tmp_path / "again")
    assert not join(tmp_path / "nothing", "run", tmp_path / "again")


@pytest.mark.parametrize("name", list(RECIPES))
def test_every_recipe_is_a_configuration(name: str) -> None:
    config = recipe_config(name, "prepared", 36, "cuda")
    assert config.network.classes == (37 if RECIPES[name].labels else 0)
    assert (config.precision, config.channels_last) == ("bfloat16", True)
    assert config.steps == sum(stage.steps for stage in RECIPES[name].values["stages"])
    assert shortened(config, 50).steps == 50
    assert changed(config, ["network.channels=4", "stages.1.learning_rate=3e-5"]).network.channels == 4
    assert changed(config, ["stages.1.learning_rate=3e-5"]).stages[1].learning_rate == 3e-5


@pytest.mark.slow
def test_the_profile_names_the_parts_of_a_step(packed: Path, tmp_path: Path) -> None:
    unpack(packed, tmp_path)
    config = changed(recipe_config("brain", str(tmp_path), 2, "cpu"), TINY)
    lines = profile(config, repeats=1, operations=3, warm_up=0).splitlines()
    assert [line.split("  ")[0] for line in lines[:4]] == [
        "pair: read, move, disturb", "network forward", "network forward and losses", "whole step",
    ]  # fmt: skip
    assert len(lines) == 10
