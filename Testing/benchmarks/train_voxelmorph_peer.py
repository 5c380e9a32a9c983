"""Train the network of the package ``voxelmorph`` on a prepared dataset, to compare with it in ``autofuse evaluate``.

    python Testing/benchmarks/train_voxelmorph_peer.py PREPARED OUT.safetensors [--steps 100000] [--learning-rate 1e-4]

Needs ``pip install voxelmorph`` (0.3 or newer). Writes the weights of the best validation, and beside them
``OUT.json`` with the loss of each step and all validations.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from autofuse_engine.errors import AutoFuseError
from autofuse_engine.events import Event, Metric
from autofuse_engine.peer_voxelmorph_network import VoxelMorphConfig
from autofuse_engine.peer_voxelmorph_training import train_voxelmorph

_SHOWN_STEPS = 50


class Lines:
    """One line for the mean of some steps, and one for each validation."""

    def __init__(self) -> None:
        self._losses: list[float] = []

    def __call__(self, event: Event) -> None:
        """Print, where there is something to print."""
        if not isinstance(event, Metric):
            return
        if event.stage == "validation":
            figures = ", ".join(f"{name} {value:.4f}" for name, value in event.values.items())
            print(f"validation at {event.step}: {figures}", flush=True)
            return
        self._losses.append(event.values["loss"])
        if event.step % _SHOWN_STEPS == 0:
            print(f"step {event.step}: loss {sum(self._losses) / len(self._losses):.4f}", flush=True)
            self._losses.clear()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--smoothness", type=float, default=1.0)
    parser.add_argument("--encoder", type=int, nargs="+", default=list(VoxelMorphConfig().encoder))
    parser.add_argument("--decoder", type=int, nargs="+", default=list(VoxelMorphConfig().decoder))
    parser.add_argument("--validation-every", type=int, default=1000)
    parser.add_argument("--validation-pairs", type=int, default=20)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int)
    options = parser.parse_args()
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    try:
        done = train_voxelmorph(
            options.dataset,
            options.out,
            steps=options.steps,
            learning_rate=options.learning_rate,
            seed=options.seed,
            network=VoxelMorphConfig(encoder=tuple(options.encoder), decoder=tuple(options.decoder)),
            smoothness=options.smoothness,
            validation_every=options.validation_every,
            validation_pairs=options.validation_pairs,
            device=options.device,
            report=Lines(),
        )
    except AutoFuseError as error:
        print(f"{error.text} {error.hint}", file=sys.stderr)
        return error.exit_code
    record = {"losses": done.losses, "validations": done.validations, "best": done.best, "seconds": done.seconds}
    options.out.with_suffix(".json").write_text(json.dumps(record), encoding="utf-8")
    print(f"best at step {done.best['step']}: score {done.best['score']:.4f}; {done.seconds:.0f} s of training")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
