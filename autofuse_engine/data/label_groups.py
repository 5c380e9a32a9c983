"""Turns the label values of a dataset into 1 to K: by a table that merges and drops values, or without gaps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from autofuse_engine.data.manifest import LabelName
from autofuse_engine.data.tables import read_table, table_invalid, whole_number
from autofuse_engine.dataset_configs import LabelRule
from autofuse_engine.errors import InputError

_MOST_LABELS = 65_535


@dataclass(frozen=True, kw_only=True)
class LabelGroups:
    """New label values by old ones; old values without an entry become background.

    Attributes:
        new_of_old: both above 0.
        names: name by new value.
    """

    new_of_old: Mapping[int, int]
    names: Mapping[int, str]

    @property
    def data_type(self) -> np.dtype:
        """uint8 where it suffices, else uint16."""
        return np.dtype(np.uint8 if max(self.names, default=0) < 256 else np.uint16)

    def group(self, labels: NDArray[np.integer]) -> NDArray[np.integer]:
        """The labelmap with new values, same shape."""
        values, places = np.unique(labels, return_inverse=True)
        new = np.array([self.new_of_old.get(int(value), 0) for value in values], self.data_type)
        return new[places].reshape(labels.shape)

    def label_names(self) -> tuple[LabelName, ...]:
        """The list for the manifest."""
        sources: dict[int, list[int]] = {}
        for old, new in sorted(self.new_of_old.items()):
            sources.setdefault(new, []).append(old)
        return tuple(
            LabelName(value=new, name=self.names[new], sources=tuple(sources.get(new, ())))
            for new in sorted(self.names)
        )


def make_groups(
    found: Iterable[int], names: Mapping[int, str], rules: Sequence[LabelRule] | None = None
) -> LabelGroups:
    """Groups for a dataset.

    Args:
        found: the label values that occur.
        names: their names, as far as known.
        rules: which value becomes which; None keeps every value that occurs, numbered from 1 in their order.

    Raises:
        InputError: ``labels-too-many``.
    """
    if rules is None:
        olds = sorted(value for value in set(found) if value > 0)
        if len(olds) > _MOST_LABELS:
            raise InputError(
                "labels-too-many",
                f"The dataset has {len(olds)} label values.",
                f"Merge or drop some with a table, so that at most {_MOST_LABELS} are left.",
            )
        new_of_old = {old: number for number, old in enumerate(olds, start=1)}
        return LabelGroups(
            new_of_old=new_of_old, names={new: names.get(old) or f"label {old}" for old, new in new_of_old.items()}
        )
    new_of_old = {rule.old: rule.new for rule in rules if rule.old and rule.new}
    given = {rule.new: rule.name for rule in rules if rule.new and rule.name}
    olds_of_new: dict[int, list[int]] = {}
    for old, new in new_of_old.items():
        olds_of_new.setdefault(new, []).append(old)
    made = {
        new: given.get(new) or " and ".join(names.get(old) or f"label {old}" for old in sorted(olds))
        for new, olds in olds_of_new.items()
    }
    return LabelGroups(new_of_old=new_of_old, names=made)


def read_label_rules(path: str | Path) -> tuple[LabelRule, ...]:
    """Read a table with the columns ``old``, ``new`` and, optionally, ``name``; new 0 drops a label.

    Raises:
        FileError: ``file-not-found`` or ``table-invalid``.
    """
    path = Path(path)
    rows = read_table(path, (("old", "old value"), ("new", "new value"), ("name", "")))
    rules = []
    for number, row in enumerate(rows, start=1):
        old, new = (whole_number(row[column], path, number) for column in ("old", "new"))
        if new > _MOST_LABELS:
            raise table_invalid(path, f"entry {number} has the new value {new}, above {_MOST_LABELS}")
        rules.append(LabelRule(old=old, new=new, name=row["name"]))
    return tuple(rules)
