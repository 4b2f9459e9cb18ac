"""Colab buttons and the way to the source, where the book has an address.

That is BOOK_REPO_URL, or else the git remote on GitHub.
"""

import os
import re
import subprocess

from sphinx.util import logging

GITHUB = re.compile(
    r"(?:https://(?:[^@/]+@)?(?:www\.)?|ssh://git@|git@)github\.com[/:]([\w.-]+)/([\w.-]+?)(?:\.git)?/?", re.I
)
COLAB = "https://colab.research.google.com"
LICENCES = 'Text and figures: <a href="https://creativecommons.org/licenses/by/4.0/">CC BY 4.0</a>. Code: MIT licence.'
PLACE = "% Run in Colab"  # where the front page gets its button
CLONE = re.compile(r"(git clone )<this repository>( .*\n)")
BUTTON = """:::{grid-item}
```{button-link} %s
:color: primary
:outline:
Run in Colab
```
:::"""
logger = logging.getLogger(__name__)


def address(folder):
    """Of the book's repository on GitHub, ``https://github.com/owner/name``; its sources are in `folder`.

    Returns:
        The address and an empty text; or, where there is none, None and why.

    Raises:
        ValueError: BOOK_REPO_URL is not an address there.
    """
    named = os.environ.get("BOOK_REPO_URL")
    url, why = (named, "") if named else remote(folder)
    found = GITHUB.fullmatch(url)
    if named and not found:
        raise ValueError(f"BOOK_REPO_URL must be like https://github.com/owner/name, got {named!r}")
    if found:
        return "https://github.com/{}/{}".format(*found.groups()), ""
    return None, why or "the git remote is not on GitHub"


def remote(folder):
    """The address of the git remote, and an empty text; or an empty address, and what git says."""
    command = ["git", "-C", folder, "remote", "get-url", "origin"]
    try:
        english = os.environ | {"LC_ALL": "C"}  # as all that the build says; in other words git may use other encodings
        done = subprocess.run(
            command, capture_output=True, encoding="utf-8", errors="replace", check=False, env=english
        )
    except OSError as error:  # there is no git
        return "", f"git does not start ({error.strerror})"
    if done.returncode:
        return "", f"git says: {' '.join(done.stderr.split())}"
    return done.stdout.strip(), ""


def add_buttons(app, config):
    """Where there is no address, say why in a line, and no more: a warning would end the build, which needs none."""
    url, why = address(app.srcdir)
    source = f' <a href="{url}">Source</a>.' if url else ""
    config.html_theme_options["extra_footer"] = f"<p>{LICENCES}{source}</p>"
    if url:
        owner, name = url.rsplit("/", 2)[1:]
        config.html_baseurl = config.html_baseurl or f"https://{owner.lower()}.github.io/{name}/"
        config.html_theme_options |= {
            "repository_url": url,
            "repository_branch": os.environ.get("BOOK_REPO_BRANCH", "main"),
            "launch_buttons": {"colab_url": COLAB},
        }
    else:
        logger.info("No Colab buttons: %s. To have them, set BOOK_REPO_URL=https://github.com/owner/name", why)


def on_the_front_page(app, docname, source):
    """The button that opens the first chapter in Colab; and where the book comes from, if that is known."""
    if docname != app.config.root_doc:
        return
    options = app.config.html_theme_options
    known = options.get("launch_buttons", {}).get("colab_url")
    source[0] = CLONE.sub(rf"\g<1>{options['repository_url']}\2" if known else "", source[0])
    if known:
        repository = options["repository_url"].removeprefix("https://")
        where = f"{COLAB}/{repository.replace('github.com', 'github', 1)}/blob/{options['repository_branch']}"
        source[0] = source[0].replace(PLACE, BUTTON % f"{where}/book/function_classes.ipynb")


def setup(app):
    app.connect("config-inited", add_buttons)
    app.connect("source-read", on_the_front_page)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
