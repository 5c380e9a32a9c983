"""Options of ``autofuse evaluate``."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from autofuse_engine.dataset_configs import SPLITS
from autofuse_engine.evaluation_configs import PAIR_CHOICES

Add = Callable[..., argparse.ArgumentParser]

_EPILOG = """methods:
  none          the images as they lie
  affine        the initial alignment that all other methods start from
  refinement    optimisation of each pair, without a model
  NAME or PATH  a model: see 'autofuse models list', or a .safetensors file
  syn, elastix, voxelmorph   methods of other packages, where they are installed

options of a method, as in --method brain@refine=default,as=brain-refined:
  refine=STEPS|default   optimisation after the network (default: none)
  similarity=lncc|mse|mind   of that; mind for different modalities (default: lncc)
  labels=WEIGHT          0..100, of the model's own labels in that; 0 leaves them out (default: by its card)
  align=yes|no           whether those labels improve the shared alignment first (default: yes)
  smoothness=FACTOR      0.1..10, as in 'autofuse register'
  passes=N               how often the network runs, 1..4
  metric=cc|mi           of syn: cross correlation, or mutual information for different modalities (default: cc)
  weights=FILE           of voxelmorph
  as=NAME                how tables and figures call it

Stopped or killed, the same command goes on where it was; more methods and pairs may be added to a folder.
"""


def add_evaluation_command(commands: Any, add: Add) -> None:
    """Add ``evaluate`` to the program's commands."""
    made = add(commands, "evaluate", _evaluate, "Compare methods of registration on pairs of a dataset.")
    made.formatter_class = argparse.RawDescriptionHelpFormatter
    made.epilog = _EPILOG
    made.add_argument("dataset", type=Path, metavar="DATASET|pairs.csv",
                      help="folder of a dataset, also of a prepared one; or a list of pairs")  # fmt: skip
    made.add_argument("--method", action="append", required=True, dest="methods", metavar="NAME[@key=value,...]",
                      help="may be repeated; see below")  # fmt: skip
    made.add_argument("--out", "-o", type=Path, required=True, metavar="DIR", help="folder of results; made if absent")
    group = made.add_argument_group("pairs")
    group.add_argument("--pairs", type=int, metavar="N",
                       help="at most so many (default: all that the dataset lists, else 20)")  # fmt: skip
    group.add_argument("--all-pairs", action="store_true", help="every pair, in both directions")
    group.add_argument("--split", choices=SPLITS, help="default: the first of validation, test, train with two cases")
    group.add_argument("--kind", choices=PAIR_CHOICES,
                       help="default: listed where the dataset lists pairs, else within-group where it has two phases "
                            "of hearts, else labelled where two cases have labels")  # fmt: skip
    group = made.add_argument_group("machine")
    group.add_argument("--device", default="auto", metavar="auto|cpu|cuda:N", help="default: auto")
    group.add_argument("--threads", type=int, metavar="N", help="of the CPU (default: chosen by PyTorch)")
    group.add_argument("--seed", type=int, default=0, metavar="N", help="default: 0")
    made.add_argument("--retry-failed", action="store_true", help="compute rows again that ended with an error")


def _evaluate(options: argparse.Namespace) -> int:
    from autofuse_engine.evaluation_commands import evaluate_command

    return evaluate_command(options)
