"""How a model did on images that it was not trained on, as its card tells it: one row for each method compared.

Standard library only. The figures come from an evaluation, see ``model_description.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from autofuse_engine.configs import Config


@dataclass(frozen=True, kw_only=True)
class MethodFigures(Config):
    """Means over the pairs of one method; None where it cannot be told.

    ``dice`` is the mean over pairs of the mean over labels, ``dice_sd`` its standard deviation over pairs,
    ``dice_per_label`` the mean over pairs by label value or name. ``seconds`` are those of the method alone.
    """

    method: str
    pairs: int
    dice: float | None = None
    dice_sd: float | None = None
    dice_per_label: Mapping[str, float] = field(default_factory=dict)
    hd95_mm: float | None = None
    folding_percent: float | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.method, str) or not self.method or type(self.pairs) is not int:
            raise ValueError(f"a row has a method and a number of pairs, received {self.method!r}, {self.pairs!r}")


@dataclass(frozen=True, kw_only=True)
class ModelValidation(Config):
    """The table: ``data`` says which images and pairs, ``device`` on what the seconds were measured."""

    data: str
    device: str = ""
    rows: tuple[MethodFigures, ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.data, str) or not isinstance(self.device, str):
            raise ValueError(f"data and device are texts, received {self.data!r}, {self.device!r}")
        if not isinstance(self.rows, tuple) or not all(isinstance(row, MethodFigures) for row in self.rows):
            raise ValueError(f"rows is a list of figures by method, received {self.rows!r}")

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> ModelValidation:
        """Build from a dictionary, rows included.

        Raises:
            ValueError: if a field is unknown or a value breaks its rule.
        """
        values = dict(content)
        rows = values.get("rows", ())
        if not isinstance(rows, (list, tuple)) or not all(isinstance(row, Mapping) for row in rows):
            raise ValueError(f"rows is a list of figures by method, received {rows!r:.80}")
        values["rows"] = tuple(MethodFigures.from_dict(row) for row in rows)
        try:
            return cls(**values)
        except TypeError as error:
            raise ValueError(f"validation has data, device and rows, received {sorted(content)}") from error
