"""A Colab button on every chapter, where the book has an address: BOOK_REPO_URL, or else the git remote on GitHub."""

import os
import re
import subprocess

GITHUB = re.compile(r"(?:https://|ssh://git@|git@)github\.com[/:]([\w.-]+)/([\w.-]+?)(?:\.git)?/?")


def address(folder):
    """Of the book's repository on GitHub, ``https://github.com/owner/name``, or None; its sources are in `folder`.

    Raises:
        ValueError: BOOK_REPO_URL is not an address there.
    """
    named = os.environ.get("BOOK_REPO_URL")
    command = ["git", "-C", folder, "remote", "get-url", "origin"]
    url = named or subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    found = GITHUB.fullmatch(url)
    if named and not found:
        raise ValueError(f"BOOK_REPO_URL must be like https://github.com/owner/name, got {named!r}")
    return found and "https://github.com/{}/{}".format(*found.groups())


def add_buttons(app, config):
    url = address(app.srcdir)
    if url:
        config.html_theme_options |= {
            "repository_url": url,
            "repository_branch": os.environ.get("BOOK_REPO_BRANCH", "main"),
            "launch_buttons": {"colab_url": "https://colab.research.google.com"},
        }


def setup(app):
    app.connect("config-inited", add_buttons)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
