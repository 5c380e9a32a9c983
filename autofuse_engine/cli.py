"""The command ``autofuse``: options, and from errors to exit codes. What commands do stands in their own modules."""

from __future__ import annotations

import argparse
import json
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from autofuse_engine import __version__
from autofuse_engine.configs import INITIAL_ALIGNMENTS, SIMILARITIES, RegistrationConfig
from autofuse_engine.dataset_arguments import add_dataset_commands
from autofuse_engine.errors import AutoFuseError, CancelledError, InputError
from autofuse_engine.evaluation_arguments import add_evaluation_command
from autofuse_engine.model_arguments import add_card_commands
from autofuse_engine.reproduction_arguments import add_reproduction_command
from autofuse_engine.terminal import make_streams_safe, print_error
from autofuse_engine.training_arguments import add_training_commands, with_run_command

Command = Callable[[argparse.Namespace], int]

_DESCRIPTION = "Deformable registration of 3D medical images. Not for clinical use."
_EPILOG = """examples:
  autofuse register fixed.nii.gz moving.nii.gz -o result
  autofuse register ct_folder/ mr.nrrd -o result --similarity mind --initial rigid
  autofuse apply result/transform.h5 moving_labels.nii.gz -r fixed.nii.gz -o labels.nii.gz --labels
  autofuse dataset check my_images/
  autofuse dataset prepare my_images/ -o prepared --spacing 2
  autofuse train --preset brain-unsupervised --dataset prepared --run-dir run
  autofuse evaluate prepared --method affine --method refinement --pairs 10 --out results
  autofuse demo

exit codes: 0 done, 1 unexpected failure, 2 something that you can correct, 130 cancelled
"""
_DEFAULTS = RegistrationConfig()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code. ``arguments`` are those after the program's name."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    make_streams_safe()
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch loads; why: docs/decisions/0034
    try:
        options = build_parser().parse_args(with_run_command(given))
        return options.command(options)
    except AutoFuseError as error:
        return _fail(error, given)
    except KeyboardInterrupt:
        return _fail(CancelledError(), given)
    except BrokenPipeError:  # the reader of our output left, as `head` does; leave without a second complaint
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if "--debug" in given:
            traceback.print_exc()
        text = f"{type(error).__name__}: {error}".splitlines()[0]
        return _fail(
            _UnexpectedError("unexpected", text, "This is a defect; run again with --debug for details."), given
        )


def build_parser() -> argparse.ArgumentParser:
    """Every command and option."""
    parser = _Parser(
        prog="autofuse", description=_DESCRIPTION, epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"autofuse {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    common = argparse.ArgumentParser(add_help=False)
    group = common.add_argument_group("output to the terminal")
    group.add_argument("--json", action="store_true", help="print one JSON document to stdout, and nothing else there")
    group.add_argument("--quiet", "-q", action="store_true", help="no progress and no tables; warnings and errors only")
    group.add_argument("--debug", action="store_true", help="show the traceback of an unexpected failure")

    def add(owner: Any, name: str, command: Command, about: str) -> argparse.ArgumentParser:
        made = owner.add_parser(name, help=about, description=about, parents=[common])
        made.set_defaults(command=command)
        return made

    _add_register(add(commands, "register", _register, "Register a moving image to a fixed image."))
    _add_apply(add(commands, "apply", _apply, "Carry an image, labelmap or point list through a transform."))
    models = commands.add_parser("models", help="List, show, import and delete models.", description="Models.")
    kinds = models.add_subparsers(title="commands", metavar="COMMAND", required=True)
    add(kinds, "list", _models_list, "List the models at hand.")
    made = add(kinds, "info", _models_info, "Show a model's card.")
    made.add_argument("name", metavar="NAME", help="name of a model, or path of its .safetensors file")
    made = add(kinds, "import", _models_import, "Copy a model into your folder of models.")
    made.add_argument("file", type=Path, metavar="FILE", help=".safetensors beside its .json, or an official .pt file")
    made.add_argument("--name", help="its name here (default: that of the card or file)")
    made.add_argument("--overwrite", action="store_true", help="replace a model of that name")
    made = add(kinds, "delete", _models_delete, "Delete a model that you imported.")
    made.add_argument("name", metavar="NAME", help="name of the model")
    add_card_commands(kinds, add)
    add_dataset_commands(commands, add)
    add_training_commands(commands, add)
    add_evaluation_command(commands, add)
    add_reproduction_command(commands, add)
    add(commands, "networks", _networks, "List the network architectures with their numbers of parameters.")
    made = add(commands, "demo", _demo, "Generate a pair of images, register it, and show the result.")
    made.add_argument("-o", "--output", type=Path, default=Path("demo"), metavar="FOLDER", help="default: demo")
    made.add_argument("--model", default=_DEFAULTS.model, metavar="NAME", help=f"default: {_DEFAULTS.model}")
    made.add_argument("--seed", type=int, default=_DEFAULTS.seed, metavar="N", help="of the generated pair")
    made = add(commands, "benchmark", _benchmark, "Measure speed and memory on this machine.")
    made.add_argument("--quick", action="store_true", help="small images, a few seconds in all")
    made.add_argument("--repeat", type=int, default=5, metavar="N", help="measurements per figure (default: 5)")
    made = add(commands, "worker", _worker, "Serve jobs over stdin and stdout, for 3D Slicer and other programs.")
    made.add_argument("--idle-seconds", type=float, default=300.0, metavar="S", help="leave when idle that long")
    return parser


def _add_register(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "fixed", type=Path, metavar="FIXED", help="image whose grid the result has: file or DICOM folder"
    )
    parser.add_argument("moving", type=Path, metavar="MOVING", help="image that is moved: file or DICOM folder")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER", help="made where absent")
    group = parser.add_argument_group("method")
    names = ", ".join(name for name in INITIAL_ALIGNMENTS if name not in ("matrix", "transform"))
    group.add_argument("--model", default=_DEFAULTS.model, metavar="NAME|PATH|auto|none",
                       help="see 'autofuse models list'; auto takes the one that fits the images, or none "
                            f"(default: {_DEFAULTS.model})")  # fmt: skip
    group.add_argument("--initial", default=_DEFAULTS.initial, metavar="KIND|FILE",
                       help=f"where the search starts: {names}, or a file with a transform from fixed to moving "
                            f"points, linear or not (default: {_DEFAULTS.initial})")  # fmt: skip
    group.add_argument("--refine", type=int, default=_DEFAULTS.refinement_steps, metavar="STEPS",
                       help="optimisation steps for this pair, 0 for none (default: chosen by the engine)")  # fmt: skip
    group.add_argument("--label-weight", type=float, default=_DEFAULTS.label_weight, metavar="WEIGHT",
                       help="0..100; how much labels that a model sees in both images, or that guide, count in the "
                            "refinement; 0 for not at all (default: by the model's card, 2 if they guide)")  # fmt: skip
    group.add_argument("--label-alignment", choices=("auto", "yes", "no"), default="auto",
                       help="whether labels that a model sees improve the initial alignment; auto does so where they "
                            "count in the refinement and the alignment was searched for, yes with a matrix too "
                            "(default: auto)")  # fmt: skip
    group.add_argument("--smoothness", type=float, default=_DEFAULTS.smoothness, metavar="FACTOR",
                       help="0.1..10; above 1 the refinement stays smoother, below 1 it follows more closely "
                            f"(default: {_DEFAULTS.smoothness:g})")  # fmt: skip
    group.add_argument("--similarity", choices=SIMILARITIES, default=_DEFAULTS.similarity,
                       help=f"mind is for different modalities (default: {_DEFAULTS.similarity})")  # fmt: skip
    group.add_argument("--spacing", type=float, default=_DEFAULTS.spacing_mm, metavar="MM",
                       help="voxel size of the working grid (default: chosen by the engine)")  # fmt: skip
    group.add_argument("--samples", type=int, default=_DEFAULTS.samples, metavar="N",
                       help="draws for the uncertainty, where the model knows it (default: 0)")  # fmt: skip
    group.add_argument("--seed", type=int, default=_DEFAULTS.seed, metavar="N", help=f"default: {_DEFAULTS.seed}")
    group = parser.add_argument_group("more inputs")
    group.add_argument("--fixed-labels", type=Path, metavar="FILE", help="labelmap: Dice and HD95 are reported")
    group.add_argument("--moving-labels", type=Path, metavar="FILE", help="labelmap: is carried along")
    group.add_argument("--guide", action="store_true",
                       help="let the labelmaps guide: a model that segments takes those of its classes for granted, "
                            "else the refinement brings equal values of both onto each other")  # fmt: skip
    group.add_argument("--label-names", type=Path, metavar="FILE",
                       help="CSV with the columns value and name, to find the classes for --guide (default: values are "
                            "those of the dataset that the model was trained on)")  # fmt: skip
    group.add_argument("--fixed-mask", type=Path, metavar="FILE", help="where to compare, 0 is outside")
    group.add_argument("--moving-mask", type=Path, metavar="FILE", help="where to compare, 0 is outside")
    group.add_argument("--fixed-points", type=Path, metavar="FILE", help="landmarks: their distance is reported")
    group.add_argument("--moving-points", type=Path, metavar="FILE", help="the same landmarks in the moving image")
    group = parser.add_argument_group("machine")
    group.add_argument("--device", default=_DEFAULTS.device, metavar="auto|cpu|cuda:N", help="default: auto")
    group.add_argument("--precision", choices=("float32", "bfloat16"), default=_DEFAULTS.precision,
                       help=f"of the network (default: {_DEFAULTS.precision})")  # fmt: skip
    group = parser.add_argument_group("output files")
    group.add_argument("--transform-format", choices=("h5", "nii.gz", "nrrd"), default="h5",
                       help="h5 keeps every part, the others are one displacement field (default: h5)")  # fmt: skip
    group.add_argument("--no-overview", action="store_true", help="draw no overview.png")


def _add_apply(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("transform", type=Path, metavar="TRANSFORM", help="transform.h5 of a registration")
    parser.add_argument("input", type=Path, metavar="INPUT",
                        help="image or point list (.mrk.json, .fcsv, .csv) in the moving image's place")  # fmt: skip
    parser.add_argument("-r", "--reference", type=Path, metavar="FILE",
                        help="image that gives the grid, such as the fixed one; points need none")  # fmt: skip
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="file to write")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--labels", action="store_true", help="the input is a labelmap: no new values arise")
    kind.add_argument("--background", type=float, metavar="VALUE",
                      help="outside of the image (default: 0, or its lowest border value where below 0)")  # fmt: skip


def _register(options: argparse.Namespace) -> int:
    from autofuse_engine.commands import register_command

    return register_command(options)


def _apply(options: argparse.Namespace) -> int:
    from autofuse_engine.commands import apply_command

    return apply_command(options)


def _models_list(options: argparse.Namespace) -> int:
    from autofuse_engine.model_commands import list_command

    return list_command(options)


def _models_info(options: argparse.Namespace) -> int:
    from autofuse_engine.model_commands import info_command

    return info_command(options)


def _models_import(options: argparse.Namespace) -> int:
    from autofuse_engine.model_commands import import_command

    return import_command(options)


def _models_delete(options: argparse.Namespace) -> int:
    from autofuse_engine.model_commands import delete_command

    return delete_command(options)


def _networks(options: argparse.Namespace) -> int:
    from autofuse_engine.model_commands import networks_command

    return networks_command(options)


def _demo(options: argparse.Namespace) -> int:
    from autofuse_engine.demo import demo_command

    return demo_command(options)


def _benchmark(options: argparse.Namespace) -> int:
    from autofuse_engine.benchmark import benchmark_command

    return benchmark_command(options)


def _worker(options: argparse.Namespace) -> int:
    from autofuse_engine.worker import serve

    return serve(options.idle_seconds)


class _UnexpectedError(AutoFuseError):
    exit_code = 1


class _Parser(argparse.ArgumentParser):
    """Raises instead of leaving, so that wrong options are told like every other error."""

    def error(self, message: str) -> NoReturn:
        sentence = message[:1].upper() + message[1:]
        raise InputError("arguments-invalid", f"{sentence}.", f"See '{self.prog} --help' for the options.")


def _fail(error: AutoFuseError, given: Sequence[str]) -> int:
    if "--json" in given:
        content = {"code": error.code, "text": error.text, "hint": error.hint}
        print(json.dumps({"status": "error", "error": content}))
    print_error(error)
    return error.exit_code
