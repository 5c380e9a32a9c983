"""The command ``autofuse demo``: a pair of images out of nothing, registered as a user would."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from autofuse_engine.commands import Inputs, parse_config, run_registration
from autofuse_engine.data.files import write_volume
from autofuse_engine.data.synthetic import make_pair
from autofuse_engine.events import Event, Progress


def demo_command(options: argparse.Namespace) -> int:
    """``autofuse demo``."""
    options.transform_format, options.no_overview = "h5", False

    def generate(report: Callable[[Event], None]) -> Inputs:
        report(Progress(stage="check", fraction=0.0, text="generating a pair"))
        pair = make_pair(options.seed)
        return Inputs(
            fixed=pair.fixed,
            moving=pair.moving,
            fixed_labels=pair.fixed_labels,
            moving_labels=pair.moving_labels,
            fixed_points_ras=pair.fixed_points_ras,
            moving_points_ras=pair.moving_points_ras,
        )

    def save_pair(inputs: Inputs, folder: Path) -> None:
        for name in ("fixed", "moving", "fixed_labels", "moving_labels"):
            write_volume(folder / f"{name}.nii.gz", getattr(inputs, name))

    content = {"model": options.model, "seed": options.seed}
    return run_registration(options, lambda: parse_config(content), generate, save_pair)
