"""Pytest fixtures of the host; a conftest.py makes them available by importing them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def host() -> Iterator[Any]:
    """The running host with a new scene; exceptions in slots and observers fail the test at its end.

    A test that expects such an exception takes it out: ``host.uncaught.pop()``.
    """
    from Testing.host.session import boot

    running = boot()
    running.reset()
    yield running
    running.unloadAll()
    uncaught, unasked = list(running.uncaught), list(running.messages.answers)
    running.release()
    if uncaught:
        pytest.fail(f"raised in a slot or observer: {uncaught[0]!r}", pytrace=False)
    if unasked:
        pytest.fail(f"nothing asked for the queued answers {unasked}", pytrace=False)


@pytest.fixture
def load_module(host: Any) -> Callable[..., Any]:
    """``load_module(path)``: load a scripted module and show its widget."""

    def load(path: str | Path, show: bool = True) -> Any:
        return host.loadModule(path, show)

    return load


@pytest.fixture
def click(host: Any) -> Callable[[Any], None]:
    """``click(button)``: click what a user can click."""
    return host.click


@pytest.fixture
def wait_until(host: Any) -> Callable[..., Any]:
    """``wait_until(condition, timeout=5)``: run the event loop until the condition holds."""
    return host.waitUntil
