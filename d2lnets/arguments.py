"""Checks of arguments, for errors that help."""

import math
from numbers import Integral, Real


def require_positive(**sizes: object) -> None:
    """Refuse, by name, what is not a whole number of at least 1."""
    for name, value in sizes.items():
        if not isinstance(value, Integral) or value < 1:
            raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}")


def require_number(
    value: object,
    name: str,
    *,
    above: float | None = None,
    least: float | None = None,
    below: float = math.inf,
    optional: bool = False,
) -> None:
    """Refuse, by name, what is not a number above `above` (or of at least `least`) and below `below`, or None."""
    if value is None and optional:
        return
    low = above if least is None else least  # one of the two is given, though mypy cannot know
    if not isinstance(value, Real) or not low <= value < below or (least is None and value == low):  # type: ignore[operator]
        range_ = f"above {above}" if least is None else f"of at least {least}"
        range_ += "" if below == math.inf else f" and below {below}"
        raise ValueError(f"{name} must be {'None or ' * optional}a number {range_}, got {value!r}")
