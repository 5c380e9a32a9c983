"""The command ``autofuse evaluate``: from options to a configuration, comparison, report, and what is printed."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from autofuse_engine.errors import AutoFuseError, CancelledError, InputError
from autofuse_engine.evaluation_configs import EvaluationConfig, MethodSpec, parse_methods
from autofuse_engine.evaluation_methods import Method
from autofuse_engine.evaluation_rows import ROWS, TABLE, PairRow
from autofuse_engine.interruption import Interruption
from autofuse_engine.terminal import ProgressDisplay, print_json, require_packages


def evaluate_command(options: argparse.Namespace) -> int:
    """``autofuse evaluate``; exit code 2 where every registration failed.

    Raises:
        AutoFuseError: what :func:`evaluate` and :func:`write_report` raise; ``evaluation-failed``.
    """
    from autofuse_engine.evaluation import evaluate
    from autofuse_engine.evaluation_report import write_report

    require_packages("scipy", "matplotlib", *([] if options.quiet else ["rich"]))
    config = config_of(options)
    try:
        with Interruption() as cancelled, ProgressDisplay(quiet=options.quiet) as display:
            rows = evaluate(
                config, options.out, report=display, cancelled=cancelled, make_peer=lambda spec: _peer(spec, config)
            )
    except KeyboardInterrupt as error:
        text = f"The evaluation was stopped at once. What was finished is in {options.out}; the same command goes on."
        raise CancelledError(text) from error
    written = write_report(options.out)
    failed = [row for row in rows if row.error is not None]
    if len(failed) == len(rows):
        raise _all_failed(failed, options.out)
    files = {"rows": str(options.out / ROWS), "table": str(options.out / TABLE), **written["files"]}
    if options.json:
        counts = {"rows": len(rows), "failed": len(failed)}
        print_json({"status": "ok", "files": files, "report": {**counts, "summary": written["summary"]}})
    elif not options.quiet:
        _print(options.out, list(files.values()), failed)
    return 0


def config_of(options: argparse.Namespace) -> EvaluationConfig:
    """The configuration that the options ask for.

    Raises:
        InputError: ``method-invalid``, ``method-duplicate``, ``options-invalid``.
    """
    methods = parse_methods(options.methods)
    try:
        return EvaluationConfig(
            dataset=str(options.dataset),
            methods=methods,
            pairs=options.pairs,
            split=options.split,
            kind=options.kind,
            all_pairs=options.all_pairs,
            device=options.device,
            seed=options.seed,
            threads=options.threads,
            retry_failed=options.retry_failed,
        )
    except ValueError as error:
        raise InputError("options-invalid", f"An option is invalid: {error}.", "Correct it and run again.") from error


def _peer(spec: MethodSpec, config: EvaluationConfig) -> Method:
    from autofuse_engine.evaluation_peers import peer_method

    return peer_method(spec, seed=config.seed, threads=config.threads, device=config.device)


def _print(folder: Path, files: Sequence[str], failed: Sequence[PairRow]) -> None:
    from autofuse_engine.evaluation_report import read_summary
    from autofuse_engine.evaluation_tables import print_summary

    print_summary(read_summary(folder)[1], "Evaluation")
    print(f"Files in {folder}: {', '.join(Path(file).name for file in files)}")
    if failed:
        print(f"{len(failed)} registrations failed; try them again with --retry-failed.")


def _all_failed(failed: Sequence[PairRow], folder: Path) -> AutoFuseError:
    first: Any = failed[0].error
    return InputError(
        "evaluation-failed",
        f"Every registration failed ({len(failed)}); the first one: {first}",
        f"Correct what it says and run again with --retry-failed; {folder / ROWS} has all of them.",
    )
