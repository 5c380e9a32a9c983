"""Rules that the fields of a configuration keep; a broken one is told with the value received."""

from __future__ import annotations

import math

from autofuse_engine.configs import Config


def require(condition: bool, rule: str, received: object) -> None:
    """Raise ValueError with the rule and the value where the condition does not hold."""
    if not condition:
        raise ValueError(f"{rule}, received {received!r}")


def whole(owner: Config, name: str, least: int, most: int) -> None:
    """The field is an integer of ``least..most``."""
    value = getattr(owner, name)
    require(type(value) is int and least <= value <= most, f"{name} is a whole number of {least}..{most}", value)


def number(owner: Config, name: str, least: float, most: float, *, above: bool = False) -> None:
    """The field is a finite number of ``least..most``; ``above`` excludes ``least`` itself."""
    value = getattr(owner, name)
    good = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    good = good and least <= value <= most and not (above and value == least)
    rule = f"is above {least:g} and at most {most:g}" if above else f"lies in {least:g}..{most:g}"
    require(good, f"{name} {rule}", value)


def truth(owner: Config, name: str) -> None:
    """The field is true or false."""
    require(type(getattr(owner, name)) is bool, f"{name} is true or false", getattr(owner, name))
