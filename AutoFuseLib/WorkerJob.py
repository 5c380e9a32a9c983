"""One request to the worker process, from its submission to its answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from autofuse_engine.events import Event


@dataclass(eq=False)
class Job:
    """A request that has not been answered."""

    id: int
    name: str
    spec: Mapping[str, Any]
    onEvent: Callable[[Event], None]
    onAnswer: Callable[[Event], None]
    finishEarly: bool = False
    cancelling: bool = False
    heard: bool = False
    """Whether the worker has said anything about it."""
    sentAgain: bool = False
