"""The folder of a reproduction: where everything lies, and whether it belongs to what is asked for now."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from autofuse_engine.data.atomic import replacing, write_error
from autofuse_engine.errors import FileError
from autofuse_engine.reproduction_plan import ReproductionConfig

CONFIG = "reproduction.json"
_MAY_CHANGE = ("methods", "device", "pairs")
"""Choices that another run of the same reproduction may change: more methods, more pairs, another machine."""


class ReproductionFolder:
    """Names of everything in the folder of a reproduction."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.config = self.path / CONFIG
        self.dataset = self.path / "dataset"
        self.runs = self.path / "runs"
        self.models = self.path / "models"
        self.evaluation = self.path / "evaluation"
        self.tables = self.path / "tables.md"

    def run(self, name: str) -> Path:
        """Run folder of a network."""
        return self.runs / name

    def model(self, name: str) -> Path:
        """Weights file of a network."""
        return self.models / f"{name}.safetensors"

    def begin(self, config: ReproductionConfig) -> None:
        """Make the folder, or go on with it.

        Raises:
            FileError: ``reproduction-differs`` if it holds one with other choices, ``output-not-empty`` if it holds
                something else, ``output-not-writable``.
        """
        wanted = json.loads(json.dumps(config.to_dict()))
        known = self._known()
        for name, value in wanted.items():
            if known is not None and name not in _MAY_CHANGE and known.get(name) != value:
                raise FileError(
                    "reproduction-differs",
                    f"The folder {self.path} holds a reproduction with {name} {known.get(name)}, not {value}.",
                    "Choose another folder, or the same options as before.",
                )
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            others = [entry.name for entry in self.path.iterdir() if not entry.name.startswith(".autofuse-")]
        except OSError as error:
            raise write_error(self.config, error) from error
        if known is None and others:
            raise FileError(
                "output-not-empty",
                f"The folder {self.path} holds something else than a reproduction.",
                "Choose a new or an empty folder.",
            )
        with replacing(self.config) as temporary:
            temporary.write_text(json.dumps(wanted, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        for folder in (self.runs, self.models):
            folder.mkdir(exist_ok=True)

    def _known(self) -> dict[str, Any] | None:
        try:
            content = json.loads(self.config.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise FileError(
                "reproduction-invalid",
                f"The file {self.config} cannot be read: {error}.",
                "Restore it, or choose another folder.",
            ) from error
        return content if isinstance(content, dict) else {}
