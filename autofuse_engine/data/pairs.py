"""Which two cases a training step registers: a pure function of seed and step, so that training resumes exactly.

All pairs of a kind are numbered without being listed. Each epoch visits every number once, in an order that a keyed
permutation gives (a Feistel network with cycle walking, Black and Rogaway, CT-RSA 2002), so nothing needs storing.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from autofuse_engine.data.tables import read_table, table_invalid
from autofuse_engine.dataset_configs import PAIR_KINDS, SPLITS, PairKind, Split
from autofuse_engine.errors import InputError

Pair = tuple[int, int]
_ROUNDS = 6


class PairCase(Protocol):
    """What decides whether a case may be part of a pair."""

    @property
    def name(self) -> str: ...
    @property
    def split(self) -> Split: ...
    @property
    def group(self) -> str: ...
    @property
    def has_labels(self) -> bool: ...


class PairCases(Protocol):
    """Cases that pairs are made of; :class:`PreparedDataset` is one such."""

    @property
    def folder(self) -> Path: ...
    @property
    def cases(self) -> Sequence[PairCase]: ...
    @property
    def listed_pairs(self) -> Mapping[str, tuple[tuple[str, str], ...]]: ...
    def index_of(self, name: str) -> int: ...


class PairSampler:
    """Pairs (fixed index, moving index) of one split of a dataset; both directions of a pair occur.

    Args:
        dataset: the cases.
        kind: ``any`` two different cases; ``labelled`` two with labels; ``labelled+unlabelled`` in turn a pair with
            labels (even steps) and one in which at least one case has none (odd steps), or the former alone where
            every case has labels; ``within-group`` two cases of one patient, such as the heart's end-diastole and
            end-systole; ``listed`` those that the dataset or ``pairs_file`` names, in their direction.
        split: ``train``, ``validation`` or ``test``.
        seed: draws the order.
        pairs_file: CSV with the columns ``fixed`` and ``moving`` (names of cases); only with ``listed``.

    Raises:
        InputError: ``pairs-too-few`` where the split has no such pair, ``pairs-unknown-case``.
        FileError: ``table-invalid``, ``file-not-found``.
    """

    def __init__(
        self,
        dataset: PairCases,
        kind: PairKind = "any",
        split: Split = "train",
        seed: int = 0,
        pairs_file: str | Path | None = None,
    ) -> None:
        if kind not in PAIR_KINDS or split not in SPLITS:
            raise ValueError(f"kind is one of {PAIR_KINDS} and split one of {SPLITS}, received {kind!r}, {split!r}")
        if pairs_file is not None and kind != "listed":
            raise ValueError(f"pairs_file goes with kind 'listed', received {kind!r}")
        self._kind: PairKind = kind
        self._dataset, self._pairs_file, self._seed = dataset, pairs_file, seed
        self._sources = self._sources_of(kind, split)

    @property
    def pairs_per_epoch(self) -> int:
        """Steps until every pair occurred; with two kinds in turn, twice the larger number."""
        return len(self._sources) * max(source.count for source in self._sources)

    def pair(self, step: int) -> Pair:
        """The pair of a step, counted from 0; nothing but seed and step decides."""
        if step < 0:
            raise ValueError(f"step is at least 0, received {step}")
        turn, number = step % len(self._sources), step // len(self._sources)
        source = self._sources[turn]
        epoch, position = divmod(number, source.count)
        return source.pair(_permuted(position, source.count, f"{self._seed}/{turn}/{epoch}"))

    def validation_pairs(self, count: int, split: Split = "validation") -> tuple[Pair, ...]:
        """A fixed list of at most ``count`` different pairs of another split, the same for every seed.

        With ``labelled+unlabelled`` they have labels where the split has two such cases; with ``listed`` they are
        the first ones of the list.

        Raises:
            InputError: ``pairs-too-few``.
        """
        kind = self._kind
        if kind == "labelled+unlabelled":
            with_labels = sum(case.split == split and case.has_labels for case in self._dataset.cases)
            kind = "labelled" if with_labels > 1 else "any"
        source = self._sources_of(kind, split)[0]
        count = min(count, source.count)
        if kind == "listed":
            return tuple(source.pair(number) for number in range(count))
        return tuple(source.pair(_permuted(number, source.count, "validation")) for number in range(count))

    def _sources_of(self, kind: PairKind, split: Split) -> list[_Source]:
        indices = [number for number, case in enumerate(self._dataset.cases) if case.split == split]
        labelled = [number for number in indices if self._dataset.cases[number].has_labels]
        others = [number for number in indices if not self._dataset.cases[number].has_labels]
        if kind == "any":
            sources: list[_Source] = [_Ordered(indices)]
        elif kind == "labelled":
            sources = [_Ordered(labelled)]
        elif kind == "labelled+unlabelled":
            sources = [_Ordered(labelled), *([_Mixed(labelled, others)] if others else [])]
        elif kind == "within-group":
            sources = [_Listed(self._within_groups(indices))]
        else:
            sources = [_Listed(self._listed(split))]
        if min(source.count for source in sources) == 0:
            raise InputError(
                "pairs-too-few",
                f"The split '{split}' of {self._dataset.folder} has {len(indices)} cases, {len(labelled)} with labels: "
                f"they give no pair of the kind '{kind}'.",
                "Choose another kind of pairs, or add cases and prepare the dataset again.",
            )
        return sources

    def _within_groups(self, indices: Sequence[int]) -> list[Pair]:
        groups: dict[str, list[int]] = {}
        for number in indices:
            if group := self._dataset.cases[number].group:
                groups.setdefault(group, []).append(number)
        return [(a, b) for members in groups.values() for a in members for b in members if a != b]

    def _listed(self, split: Split) -> list[Pair]:
        given = self._pairs_file
        names = self._dataset.listed_pairs.get(split, ()) if given is None else read_pairs(given)
        known = {case.name for case in self._dataset.cases}
        pairs = []
        for fixed, moving in names:
            for name in (fixed, moving):
                if name not in known:
                    raise InputError(
                        "pairs-unknown-case",
                        f"The list of pairs names the case {name!r}, which the prepared dataset does not have.",
                        "Correct the list; case names are those that 'autofuse dataset check' shows.",
                    )
            pairs.append((self._dataset.index_of(fixed), self._dataset.index_of(moving)))
        return [pair for pair in pairs if all(self._dataset.cases[index].split == split for index in pair)]


def read_pairs(path: str | Path) -> tuple[tuple[str, str], ...]:
    """Read a table with the columns ``fixed`` and ``moving``.

    Raises:
        FileError: ``file-not-found`` or ``table-invalid``.
    """
    path = Path(path)
    pairs = [(row["fixed"], row["moving"]) for row in read_table(path, (("fixed",), ("moving",)))]
    for number, (fixed, moving) in enumerate(pairs, start=1):
        if not fixed or not moving or fixed == moving:
            raise table_invalid(path, f"entry {number} does not name two different cases")
    if not pairs:
        raise table_invalid(path, "it lists no pair")
    return tuple(pairs)


class _Source(ABC):
    """Pairs by number, 0 to ``count`` - 1."""

    count: int

    @abstractmethod
    def pair(self, number: int) -> Pair: ...


class _Ordered(_Source):
    """Ordered pairs of two different cases."""

    def __init__(self, indices: Sequence[int]) -> None:
        self._indices = indices
        self.count = len(indices) * (len(indices) - 1)

    def pair(self, number: int) -> Pair:
        fixed, moving = divmod(number, len(self._indices) - 1)
        return self._indices[fixed], self._indices[moving + (moving >= fixed)]


class _Mixed(_Source):
    """Ordered pairs of two different cases of which at least one has no labels."""

    def __init__(self, labelled: Sequence[int], others: Sequence[int]) -> None:
        self._labelled, self._others = labelled, others
        self._all = _Ordered([*others, *labelled])
        self._from_others = len(others) * max(0, len(others) + len(labelled) - 1)
        self.count = self._from_others + len(labelled) * len(others)

    def pair(self, number: int) -> Pair:
        if number < self._from_others:
            return self._all.pair(number)
        fixed, moving = divmod(number - self._from_others, len(self._others))
        return self._labelled[fixed], self._others[moving]


class _Listed(_Source):
    """Pairs of a list."""

    def __init__(self, pairs: Sequence[Pair]) -> None:
        self._pairs = pairs
        self.count = len(pairs)

    def pair(self, number: int) -> Pair:
        return self._pairs[number]


def _permuted(position: int, count: int, key: str) -> int:
    """Where a keyed permutation of 0 to ``count`` - 1 sends ``position``."""
    half_bits = max(1, ((count - 1).bit_length() + 1) // 2)
    mask = (1 << half_bits) - 1
    while True:
        left, right = position >> half_bits, position & mask
        for number in range(_ROUNDS):
            left, right = right, left ^ (_mixed(f"{key}/{number}/{right}") & mask)
        position = left << half_bits | right
        if position < count:
            return position


def _mixed(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode("ascii"), digest_size=8).digest(), "little")
