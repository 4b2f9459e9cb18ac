"""What tests share."""

import os

import pytest


def lacking(what, how_to_get_it):
    """Skip, saying what this machine lacks; in CI, where it must be there, fail."""
    message = f"no {what}: {how_to_get_it}"
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)
