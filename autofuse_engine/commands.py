"""The commands ``autofuse register`` and ``autofuse apply``: files in, use case, files out."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from autofuse_engine.application import apply_transform
from autofuse_engine.configs import INITIAL_ALIGNMENTS, RegistrationConfig
from autofuse_engine.data.files import read_labelmap, read_volume
from autofuse_engine.data.points import read_points
from autofuse_engine.data.transform import SpatialTransform
from autofuse_engine.data.transform_files import read_transform
from autofuse_engine.data.volume import Volume
from autofuse_engine.errors import InputError
from autofuse_engine.events import Event, Progress
from autofuse_engine.guidance import Guidance
from autofuse_engine.guidance_inputs import (
    guidance_from_names,
    read_label_names,
    require_a_match,
    require_guidable,
    require_purpose,
)
from autofuse_engine.interruption import Interruption
from autofuse_engine.job_files import OVERVIEW, ResultFolder, save_report, save_result
from autofuse_engine.registration import RegistrationResult, register
from autofuse_engine.terminal import ProgressDisplay, print_json, print_result, require_packages, scaled
from autofuse_engine.verdict import judge

_SAVING_STARTS = 0.94
_SEARCHED = tuple(name for name in INITIAL_ALIGNMENTS if name not in ("matrix", "transform"))


@dataclass(frozen=True, kw_only=True, eq=False)
class Inputs:
    """What ``register`` takes besides its configuration; points are ``(N, 3)``, RAS mm."""

    fixed: Volume
    moving: Volume
    fixed_labels: Volume | None = None
    moving_labels: Volume | None = None
    fixed_mask: Volume | None = None
    moving_mask: Volume | None = None
    fixed_points_ras: NDArray | None = None
    moving_points_ras: NDArray | None = None
    guidance: Guidance | None = None
    start_from: SpatialTransform | None = None

    def as_arguments(self) -> dict[str, Any]:
        """By name, as ``register`` takes them."""
        return {item.name: getattr(self, item.name) for item in fields(self)}


def register_command(options: argparse.Namespace) -> int:
    """``autofuse register``."""
    return run_registration(options, lambda: config_of(options), lambda report: read_inputs(options, report))


def run_registration(
    options: argparse.Namespace,
    make_config: Callable[[], RegistrationConfig],
    make_inputs: Callable[[Callable[[Event], None]], Inputs],
    save_more: Callable[[Inputs, Path], None] = lambda inputs, folder: None,
) -> int:
    """Register, write every file of the result at once, and show the figures.

    Args:
        options: ``output``, ``transform_format``, ``no_overview``, ``quiet`` and ``json`` are read.
        make_config: called once the output folder is known to be writable.
        make_inputs: likewise, with a callable for progress.
        save_more: writes further files below a folder, from where they move with all others.
    """
    require_packages(*([] if options.quiet else ["rich"]), *([] if options.no_overview else ["matplotlib"]))
    with Interruption() as cancelled, ResultFolder(options.output) as folder:
        with ProgressDisplay(quiet=options.quiet) as display:
            config = make_config()
            inputs = make_inputs(display)
            cancelled.check()
            report = scaled(display, 0.02, _SAVING_STARTS)
            result = register(**inputs.as_arguments(), config=config, report=report, cancelled=cancelled)
            content = _save(options, inputs, result, folder, display, cancelled)
            save_more(inputs, folder.partial)
        cancelled.check()
        files = folder.commit()
    if options.json:
        verdict = judge(content)
        shown = {"level": verdict.level, "text": verdict.text}
        paths = {name: str(path) for name, path in files.items()}
        print_json({"status": "ok", "files": paths, "report": content, "verdict": shown})
    elif not options.quiet:
        print_result(content, files, f"{inputs.moving.name} registered to {inputs.fixed.name}")
    return 0


def config_of(options: argparse.Namespace) -> RegistrationConfig:
    """The configuration that the options ask for.

    Raises:
        InputError: ``options-invalid``, or what reading a transform raises.
    """
    initial: str = options.initial
    matrix = None
    if (transform := _initial_transform(initial)) is not None:
        found = transform.matrix_ras
        initial = "transform" if found is None else "matrix"
        matrix = None if found is None else tuple(tuple(float(value) for value in row) for row in found)
    content = {
        "model": options.model,
        "initial": initial,
        "initial_matrix_ras": matrix,
        "similarity": options.similarity,
        "refinement_steps": options.refine,
        "label_weight": options.label_weight,
        "label_alignment": {"auto": None, "yes": True, "no": False}[options.label_alignment],
        "smoothness": options.smoothness,
        "spacing_mm": options.spacing,
        "samples": options.samples,
        "device": options.device,
        "precision": options.precision,
        "seed": options.seed,
    }
    return parse_config(content)


def parse_config(content: Mapping[str, Any]) -> RegistrationConfig:
    """A registration's configuration from plain values.

    Raises:
        InputError: ``options-invalid``, with the rule that is broken and the value received.
    """
    try:
        return RegistrationConfig.from_dict(content)
    except (ValueError, TypeError) as error:
        raise InputError("options-invalid", f"An option is invalid: {error}.", "Correct it and run again.") from error


def read_inputs(options: argparse.Namespace, report: Callable[[Event], None]) -> Inputs:
    """Read every file that the options name; errors as the readers raise them."""

    def told(path: Path | None, read: Callable[[Path], Any]) -> Any:
        if path is None:
            return None
        report(Progress(stage="check", fraction=0.0, text=f"reading {path.name}"))
        return read(path)

    if options.guide:
        sides = sum(path is not None for path in (options.fixed_labels, options.moving_labels))
        require_guidable(options.model, sides=sides)
    else:
        require_purpose(options.label_names)
    names = told(options.label_names, read_label_names)
    start = _initial_transform(options.initial)
    fixed_labels, moving_labels = (told(path, read_labelmap) for path in (options.fixed_labels, options.moving_labels))
    guidance = None
    if options.guide:
        guidance = guidance_from_names(fixed_labels, moving_labels, names)
        require_a_match(options.model, guidance, options.label_names)
    return Inputs(
        fixed=told(options.fixed, read_volume),
        moving=told(options.moving, read_volume),
        fixed_labels=fixed_labels,
        moving_labels=moving_labels,
        fixed_mask=told(options.fixed_mask, read_labelmap),
        moving_mask=told(options.moving_mask, read_labelmap),
        fixed_points_ras=told(options.fixed_points, _read_landmarks),
        moving_points_ras=told(options.moving_points, _read_landmarks),
        guidance=guidance,
        start_from=start if start is not None and start.matrix_ras is None else None,
    )


def apply_command(options: argparse.Namespace) -> int:
    """``autofuse apply``."""
    require_packages(*([] if options.quiet else ["rich"]))
    with ProgressDisplay(quiet=options.quiet) as display:
        figures = apply_transform(
            options.transform,
            options.input,
            options.reference,
            options.output,
            labels=options.labels,
            background=options.background,
            report=display,
        )
    if options.json:
        print_json({"status": "ok", "files": {"output": str(options.output)}, "report": figures})
    elif not options.quiet:
        print(f"Wrote {options.output} ({figures['kind']}).")
    return 0


def _save(
    options: argparse.Namespace,
    inputs: Inputs,
    result: RegistrationResult,
    folder: ResultFolder,
    display: ProgressDisplay,
    cancelled: Interruption,
) -> dict[str, Any]:
    """Write everything below the partial folder; returns the content of the report."""

    def done(share: float) -> None:
        cancelled.check()
        display(Progress(stage="saving", fraction=_SAVING_STARTS + 0.05 * share))

    done(0.0)
    save_result(result, inputs.moving, folder.partial, options.transform_format, done)
    if not options.no_overview:
        from autofuse_engine.overview import Labels, save_overview

        labels = Labels(fixed=inputs.fixed_labels, moving=inputs.moving_labels)
        save_overview(folder.partial / OVERVIEW, inputs.fixed, inputs.moving, result, labels)
    save_report(result.report, folder.partial)
    return result.report


def _read_landmarks(path: Path) -> NDArray:
    return read_points(path).points_ras


def _initial_transform(text: str) -> SpatialTransform | None:
    """The transform of the file that is named in place of a kind of alignment; None where a kind is."""
    if text in _SEARCHED:
        return None
    path = Path(text)
    if not path.is_file():
        raise InputError(
            "initial-unknown",
            f"The initial alignment {text!r} is neither one of {', '.join(_SEARCHED)} nor a file.",
            "Choose one of these, or name a file with a transform.",
        )
    return read_transform(path)
