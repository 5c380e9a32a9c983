"""The folder of an evaluation: what was evaluated with what, the rows, and the initial alignments that all share."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from autofuse_engine import __version__, catalog
from autofuse_engine.data.atomic import replacing
from autofuse_engine.errors import FileError
from autofuse_engine.evaluation_configs import EvaluationConfig, MethodSpec
from autofuse_engine.evaluation_data import EvaluationData
from autofuse_engine.evaluation_rows import invalid_results
from autofuse_engine.json_lines import append_line, read_lines
from autofuse_engine.model_card import sha256_of
from autofuse_engine.run_lock import RunLock, holder

CONFIG = "evaluation.json"
ALIGNMENTS = "alignments.jsonl"
LOCK = "lock"
FORMAT, VERSION = "autofuse-evaluation", 1
_MACHINE = ("device", "device_name", "processor", "threads")


@dataclass(frozen=True, kw_only=True, eq=False)
class SharedAlignment:
    """The initial alignment of one pair: ``matrix_ras`` (4x4) takes fixed points to the moving image."""

    matrix_ras: NDArray[np.float64]
    seconds: float


class EvaluationFolder:
    """A context manager that holds the folder for one process, and reads what an earlier run left there.

    Raises:
        FileError: on entering ``evaluation-in-use``, ``output-not-empty``, ``output-not-writable``,
            ``run-lock-unsupported`` or ``evaluation-invalid``.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._content: dict[str, Any] = {}
        self._alignments: dict[tuple[str, str], SharedAlignment] = {}
        self._lock: RunLock | None = None

    def __enter__(self) -> EvaluationFolder:
        self._make()
        lock = RunLock(self.path / LOCK)
        try:
            lock.__enter__()
        except FileError as error:
            raise (_in_use(self.path) if error.code == "run-locked" else error) from error
        try:
            self._content = self._read_config()
            self._alignments = self._read_alignments()
        except BaseException:
            lock.__exit__(None, None, None)
            raise
        self._lock = lock
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._lock is not None:
            self._lock.__exit__(kind, error, trace)
            self._lock = None

    def begin(self, config: EvaluationConfig, data: EvaluationData, device: torch.device) -> list[str]:
        """Write down what is evaluated now, after a look whether it goes with what the folder holds.

        Returns:
            Sentences that the user should know, such as that the rows were measured on different machines.

        Raises:
            FileError: ``evaluation-differs``, ``output-not-writable``, or ``disk-full``.
            ModelError: if a model is not there.
        """
        known = self._content
        used = {name for pair in data.readers for name in pair}
        cases = {name: text for name, text in data.fingerprints.items() if name in used}
        dataset = {"kind": data.kind, "path": str(data.path.resolve()), "cases": cases}
        methods = {spec.name: spec.to_dict() for spec in config.methods}
        weights = {spec.name: found for spec in config.methods if (found := _sha256_of_model(spec)) is not None}
        run = {"engine": __version__, "torch": str(torch.__version__), "python": platform.python_version(),
               "system": platform.platform(), "threads": torch.get_num_threads(), **_device_facts(device)}  # fmt: skip
        notes: list[str] = []
        if known:
            self._require_same(known, dataset, config.seed)
            self._require_same_methods(known, methods, weights)
            methods = {**{method["name"]: method for method in known["methods"]}, **methods}
            last = known["runs"][-1]
            if changed := [name.replace("_", " ") for name in _MACHINE if last.get(name) != run[name]]:
                notes.append(
                    f"Rows of this folder were measured with another {' and '.join(changed)}: seconds and memory of "
                    "the rows do not compare."
                )
        pairs = [list(pair) for pair in data.readers]
        earlier = known.get("pairs", [])
        self._content = {
            "format": FORMAT,
            "version": VERSION,
            "dataset": {**dataset, "cases": {**known.get("dataset", {}).get("cases", {}), **cases}},
            "label_names": {str(value): name for value, name in data.label_names.items()},
            "seed": config.seed,
            "methods": list(methods.values()),
            "model_sha256": {**known.get("model_sha256", {}), **weights},
            "pairs": [*earlier, *(pair for pair in pairs if pair not in earlier)],
            "runs": [*known.get("runs", []), run],
        }
        with replacing(self.path / CONFIG) as temporary:
            temporary.write_text(json.dumps(self._content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        return notes

    def alignment(self, pair: tuple[str, str]) -> SharedAlignment | None:
        """The initial alignment that was found for a pair, or None."""
        return self._alignments.get(pair)

    def keep_alignment(self, pair: tuple[str, str], found: SharedAlignment) -> None:
        """Keep it for later methods and runs.

        Raises:
            FileError: ``output-not-writable``.
        """
        self._alignments[pair] = found
        content = {"fixed": pair[0], "moving": pair[1], "moving_from_fixed_ras": found.matrix_ras.tolist()}
        try:
            append_line(self.path / ALIGNMENTS, {**content, "seconds": found.seconds})
        except OSError as error:
            raise _not_writable(self.path / ALIGNMENTS) from error

    def _make(self) -> None:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            others = {entry.name for entry in os.scandir(self.path)} - {LOCK}
        except OSError as error:
            raise _not_writable(self.path) from error
        if others and CONFIG not in others:
            raise FileError(
                "output-not-empty",
                f"The folder {self.path} holds something else than an evaluation.",
                "Choose a new or an empty folder.",
            )

    def _read_config(self) -> dict[str, Any]:
        path = self.path / CONFIG
        if not path.exists():
            return {}
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content["format"] != FORMAT or content["version"] != VERSION:
                raise ValueError(f"it has the format {content['format']}, version {content['version']}")
            for name, kind in (("dataset", dict), ("methods", list), ("pairs", list), ("runs", list)):
                if not isinstance(content[name], kind) or not content[name]:
                    raise ValueError(f"{name} is empty or of another type")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise invalid_results(path, str(error)) from error
        return content

    def _read_alignments(self) -> dict[tuple[str, str], SharedAlignment]:
        path = self.path / ALIGNMENTS
        try:
            return {
                (content["fixed"], content["moving"]): SharedAlignment(
                    matrix_ras=np.array(content["moving_from_fixed_ras"], dtype=np.float64).reshape(4, 4),
                    seconds=float(content["seconds"]),
                )
                for _, content in read_lines(path)
            }
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise invalid_results(path, str(error)) from error

    def _require_same(self, known: Mapping[str, Any], dataset: Mapping[str, Any], seed: int) -> None:
        before = known["dataset"]
        common = before["cases"].keys() & dataset["cases"].keys()
        same = all(before["cases"][name] == dataset["cases"][name] for name in common)
        related = bool(common) or before["path"] == dataset["path"]
        if before["kind"] != dataset["kind"] or not same or not related:
            raise self._differs(f"the dataset {before['path']}, not of {dataset['path']} as it is now")
        if known["seed"] != seed:
            raise self._differs(f"the seed {known['seed']}, not {seed}")

    def _require_same_methods(
        self, known: Mapping[str, Any], methods: Mapping[str, Any], weights: Mapping[str, str]
    ) -> None:
        for before in known["methods"]:
            name = before["name"]
            if name not in methods:
                continue
            if _with_defaults(before) != methods[name]:
                raise self._differs(f"another method under the name {name!r}")
            if known.get("model_sha256", {}).get(name) != weights.get(name):
                raise self._differs(f"the method {name!r} with other weights")

    def _differs(self, what: str) -> FileError:
        return FileError(
            "evaluation-differs",
            f"The folder {self.path} holds results of {what}.",
            "Choose another folder; of a method, another name with @as=NAME does as well.",
        )


def _sha256_of_model(spec: MethodSpec) -> str | None:
    """Changes when the weights change, so that rows of two states of a model never mix."""
    if spec.kind == "model" and spec.model is not None:
        return sha256_of(catalog.find(spec.model).weights_path)
    return sha256_of(Path(spec.model)) if spec.model is not None and Path(spec.model).is_file() else None


def _device_facts(device: torch.device) -> dict[str, Any]:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
    return {"device": str(device), "device_name": name, "processor": platform.processor() or platform.machine()}


def _in_use(path: Path) -> FileError:
    last = holder(path / LOCK)
    who = f" (process {last['process']} on {last['computer']})" if {"process", "computer"} <= last.keys() else ""
    return FileError(
        "evaluation-in-use",
        f"Another evaluation writes to {path}{who}.",
        "Wait for its end, stop it, or choose another folder.",
    )


def _not_writable(path: Path) -> FileError:
    return FileError("output-not-writable", f"{path} cannot be written.", "Check that the folder allows writing.")


def _with_defaults(method: Mapping[str, Any]) -> Mapping[str, Any]:
    """A stored method with what an older version did not know yet; as it is where it cannot be read."""
    try:
        return MethodSpec.from_dict(method).to_dict()
    except (TypeError, ValueError):
        return method
