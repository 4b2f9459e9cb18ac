"""Checks of arguments, for errors that help."""

from numbers import Integral


def require_positive(**sizes):
    """Refuse, by name, what is not a whole number of at least 1."""
    for name, value in sizes.items():
        if not isinstance(value, Integral) or value < 1:
            raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}")
