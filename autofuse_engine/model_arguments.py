"""Options of the commands that write cards and pages of models: ``autofuse models describe|page|pages``."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

Add = Callable[..., argparse.ArgumentParser]


def add_card_commands(kinds: Any, add: Add) -> None:
    """Add the commands below ``autofuse models``."""
    made = add(kinds, "describe", _describe, "Complete a model's card; its weights stay as they are.")
    made.add_argument("name", metavar="NAME", help="name of a model, or path of its .safetensors file")
    made.add_argument("--title", default="", help="one line for people")
    made.add_argument("--licence", default="", help="of the weights")
    add_card_options(made)
    made.add_argument("--evaluation", type=Path, metavar="FOLDER",
                      help="what 'autofuse evaluate --out' wrote: becomes the validation table")  # fmt: skip
    made.add_argument("--evaluated-on", default="", metavar="TEXT", help="which images and pairs, for the reader")
    made.add_argument("--evaluated-with", default="", metavar="TEXT", help="the machine, such as 'one CPU thread'")
    made = add(kinds, "page", _page, "Write a model's card as a page for people, in Markdown.")
    made.add_argument("name", metavar="NAME", help="name of a model, or path of its .safetensors file")
    made.add_argument("-o", "--output", type=Path, metavar="FILE.md", help="default: to the terminal")
    made = add(kinds, "pages", _pages, "Write the pages of all shipped models, and their index.")
    made.add_argument("folder", type=Path, metavar="FOLDER", help="such as docs/models")


def add_card_options(parser: argparse.ArgumentParser) -> None:
    """What people know of a model and its data, and the images by which its range is measured."""
    parser.add_argument("--modality", default="", help="such as MR T1w or CT, or any")
    parser.add_argument("--body-part", default="", help="such as brain")
    parser.add_argument("--attribution", default="", metavar="TEXT", help="who is to be named for the data")
    parser.add_argument("--citation", default="", metavar="TEXT", help="what to cite")
    parser.add_argument("--not-for", action="append", default=[], metavar="TEXT", help="may be repeated")
    parser.add_argument("--known-failure", action="append", default=[], metavar="TEXT", help="may be repeated")
    parser.add_argument("--spacing-range", type=float, nargs=2, metavar=("MM", "MM"),
                        help="finest and coarsest voxels of users' images (default: by the training's)")  # fmt: skip
    parser.add_argument("--images", type=Path, metavar="DATASET",
                        help="the dataset before its preparation: its training images are measured")  # fmt: skip
    parser.add_argument("--refinement-steps", type=int, metavar="STEPS",
                        help="at each level, by default, after this model; 0 where it is better alone")  # fmt: skip
    parser.add_argument("--label-weight", type=float, metavar="WEIGHT",
                        help="0..100, of predicted labels in that refinement; 0 where they do harm")  # fmt: skip
    parser.add_argument("--note", default="", metavar="TEXT", help="on the training, beyond its configuration")
    parser.add_argument("--commit", default="", metavar="HASH", help="of the code that trained it")


def _describe(options: argparse.Namespace) -> int:
    from autofuse_engine.model_card_commands import describe_command

    return describe_command(options)


def _page(options: argparse.Namespace) -> int:
    from autofuse_engine.model_card_commands import page_command

    return page_command(options)


def _pages(options: argparse.Namespace) -> int:
    from autofuse_engine.model_card_commands import pages_command

    return pages_command(options)
