"""Train a model that ships on a rented machine, in pieces of some minutes, and bring home what it needs to go on.

    python Testing/gpu/train_model.py MODEL --data DATA --pack PREPARED
    python Testing/gpu/train_model.py MODEL --data DATA --out OUT [--state STATE] [--minutes 9] [--device cuda]
        [--steps N] [--set KEY=VALUE ...] [--test] [--profile]
    python Testing/gpu/train_model.py MODEL --home OUT [--images RAW] [--models FOLDER]

MODEL is a name of ``recipes.RECIPES``. The first form packs a prepared dataset into DATA (``.tar.xz``). The second one
trains. The run lives in ``--work`` (default ``.gpu/MODEL``): while the machine stays, the same command goes on from
there exactly; on a new machine it goes on from the parts ``run.NN`` in STATE that an earlier call left in its OUT
(``compact_state`` says how near that is), and ``best.NN`` there hold the best checkpoint as float16. Parts have at most
15 MiB. ``--test`` runs the tests marked ``gpu`` first, ``--profile`` prints where the time of a step goes. The third
form makes the run folder at home again, and of its best checkpoint the model, float16 with its card; RAW is the dataset
before its preparation, which the card measures.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch

from autofuse_engine.data.prepared import PreparedDataset
from autofuse_engine.events import Event, Warning
from autofuse_engine.model_card import IntendedUse
from autofuse_engine.run_folder import RunFolder, read_cells
from autofuse_engine.training import TrainingResult, train
from autofuse_engine.training_configs import TrainingConfig
from Testing.gpu.compact_state import compact, expand
from Testing.gpu.parcels import join, pack, split, unpack
from Testing.gpu.profile_step import profile
from Testing.gpu.recipes import RECIPES, recipe_config

_RUN, _BEST, _COMPACT = "run", "best", "last.compact"
ROOT = Path(__file__).resolve().parents[2]
FACTS = ("dataset", "device", "precision", "channels_last")
"""Of the configuration, what belongs to the machine and not to the run."""


def train_piece(
    model: str,
    data: Path,
    out: Path,
    *,
    state: Path | None = None,
    work: Path,
    minutes: float = 9.0,
    device: str = "cuda",
    steps: int | None = None,
    changes: Sequence[str] = (),
    before: Callable[[TrainingConfig], None] = lambda config: None,
) -> TrainingResult:
    """Train for some minutes and leave everything that the next piece needs in ``out``.

    Args:
        model: key of ``RECIPES``.
        data: prepared dataset, a packed file or a folder.
        out: receives ``run.NN`` and ``best.NN``.
        state: folder with the parts of an earlier piece; used where ``work`` holds no run.
        work: where dataset and run lie.
        minutes: after so many the training writes a checkpoint and stops; unpacking and packing are not counted.
        device: ``cuda`` or ``cpu``.
        steps: of the whole schedule, in place of the recipe's; stages are shortened in proportion.
        changes: ``KEY=VALUE`` of the configuration, values in JSON.
        before: called with the configuration before training.
    """
    torch.backends.cudnn.benchmark = device.startswith(
        "cuda"
    )  # shapes never change: the fastest kernels are worth a search
    dataset_folder = unpacked(data, work / "dataset")
    run = RunFolder(work / "run")
    if not run.last.exists() and state is not None:
        receive(state, run)
    dataset = PreparedDataset.open(dataset_folder)
    config = recipe_config(model, str(dataset_folder), len(dataset.labels), device)
    if steps is not None:
        config = shortened(config, steps)
    config = changed(config, changes)
    if run.config.exists():  # the run keeps its choices; the machine brings its own
        stored = run.read_config()
        config = replace(changed(stored, changes), **{name: getattr(config, name) for name in FACTS})
    before(config)
    end = time.monotonic() + 60 * minutes
    result = train(config, run.path, resume=True, report=_print_warnings, stop=lambda: time.monotonic() >= end)
    send(run, out)
    return result


def unpacked(data: Path, folder: Path) -> Path:
    """The folder of a prepared dataset, unpacked where it is not yet."""
    if data.is_dir():
        return data
    if not (folder / "manifest.json").exists():
        shutil.rmtree(folder, ignore_errors=True)
        unpack(data, folder)
    return folder


def shortened(config: TrainingConfig, steps: int) -> TrainingConfig:
    """The schedule in so many steps; each stage keeps its share and at least one step."""
    stages = [replace(stage, steps=max(1, round(stage.steps * steps / config.steps))) for stage in config.stages]
    return replace(config, stages=tuple(stages))


def changed(config: TrainingConfig, changes: Sequence[str]) -> TrainingConfig:
    """The configuration with values set by path, such as ``network.channels=8``."""
    content: Any = config.to_dict()
    for change in changes:
        path, _, text = change.partition("=")
        *parents, last = path.split(".")
        place = content
        for name in parents:
            place = place[int(name)] if isinstance(place, (list, tuple)) else place[name]
        place[last] = json.loads(text)
    return TrainingConfig.from_dict(content)


def receive(state: Path, run: RunFolder) -> bool:
    """Make a run of the parts of an earlier piece, its best checkpoint too where it is there; False without parts."""
    parcel = run.path.parent / "received.tar.gz"
    parcel.parent.mkdir(parents=True, exist_ok=True)
    if not join(state, _RUN, parcel):
        return False
    unpack(parcel, run.path)
    parcel.unlink()
    expand(run.path / _COMPACT, run.last)
    (run.path / _COMPACT).unlink()
    if join(state, _BEST, parcel):
        expand(parcel, run.best)
        parcel.unlink()
    return True


def send(run: RunFolder, out: Path) -> None:
    """Leave a run in ``out`` as parts, its best checkpoint apart; a piece that found no better one leaves none."""
    bundle = run.path.parent / "bundle"
    shutil.rmtree(bundle, ignore_errors=True)
    bundle.mkdir(parents=True)
    for path in (run.config, run.metrics, run.validation, run.events):
        shutil.copy2(path, bundle / path.name)
    compact(run.last, bundle / _COMPACT)
    parcel = run.path.parent / "sent.tar.gz"
    pack(bundle, parcel)
    split(parcel, out, _RUN)
    if run.best.exists():
        compact(run.best, parcel)
        split(parcel, out, _BEST)
    parcel.unlink()


def make_model(model: str, run: RunFolder, folder: Path | None, images: Path | None) -> Path:
    """The model of the best checkpoint, float16, with its card; the path of its weights."""
    from autofuse_engine.training_export import export_model  # needs SimpleITK, which rented machines may lack

    recipe = RECIPES[model]
    return export_model(
        run.path, f"autofuse-{model}", folder=folder, overwrite=True, title=recipe.title, images=images,
        intended_use=IntendedUse(modality=recipe.modality, body_part=recipe.body_part), storage="float16",
    )  # fmt: skip


def table(run: RunFolder, rows: int = 8) -> str:
    """The last validations, and the median time of a step."""
    judged = read_cells(run.validation)[-rows:]
    seconds = sorted(float(row["seconds"]) for row in read_cells(run.metrics)[-2000:])
    names = [name for name in ("step", "score", "dice", "dice_synthesised", "folding_percent", "similarity")
             if judged and name in judged[-1]]  # fmt: skip
    lines = ["  ".join(f"{name:>16}" for name in names)]
    lines += ["  ".join(f"{row[name][:8]:>16}" for name in names) for row in judged]
    if seconds:
        lines.append(f"median of a step: {1000 * seconds[len(seconds) // 2]:.1f} ms over {len(seconds)} steps")
    return "\n".join(lines)


def run_gpu_tests() -> int:
    """Exit code of pytest on the files that hold tests marked gpu; others may need packages that a machine lacks."""
    files = [path for path in (ROOT / "Testing/engine").rglob("test_*.py") if "mark.gpu" in path.read_text("utf-8")]
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", *map(str, sorted(files))]
    return subprocess.run(command, cwd=ROOT, check=False).returncode


def _print_warnings(event: Event) -> None:
    if isinstance(event, Warning):
        print(f"warning {event.code}: {event.text}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Train a model that ships, in pieces; see the head of this file.")
    parser.add_argument("model", choices=list(RECIPES))
    parser.add_argument("--data", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--state", type=Path)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--set", action="append", default=[], dest="changes", metavar="KEY=VALUE")
    parser.add_argument("--pack", type=Path, metavar="FOLDER")
    parser.add_argument("--home", type=Path, metavar="OUT")
    parser.add_argument("--images", type=Path, metavar="RAW")
    parser.add_argument("--models", type=Path, metavar="FOLDER")
    parser.add_argument("--test", action="store_true")
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    work = options.work or ROOT / ".gpu" / options.model
    if options.home is not None:
        if not receive(options.home, RunFolder(work / "run")):
            parser.error(f"{options.home} holds no parts of a run")
        print(make_model(options.model, RunFolder(work / "run"), options.models, options.images))
        return
    if options.data is None:
        parser.error("--data is missing")
    if options.pack is not None:
        size = pack(options.pack, options.data, leave_out=("steps",))
        print(f"{options.data}: {size / 2**20:.1f} MiB")
        return
    if options.out is None:
        parser.error("--out is missing")
    if options.test:
        print(f"tests marked gpu: exit {run_gpu_tests()}", flush=True)
    show = (lambda config: print(profile(config), flush=True)) if options.profile else (lambda config: None)
    train_piece(
        options.model, options.data, options.out, state=options.state, work=work, minutes=options.minutes,
        device=options.device, steps=options.steps, changes=options.changes, before=show,
    )  # fmt: skip
    print(table(RunFolder(work / "run")))
    for path in sorted(options.out.iterdir()):
        print(f"{path.name:16} {path.stat().st_size / 2**20:6.1f} MiB")


if __name__ == "__main__":
    main()
