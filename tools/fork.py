"""Point the book at its repository: ``python tools/fork.py https://github.com/owner/name``.

The set-up cell of every chapter installs the package from there; README.md and the index tell to clone it.
Of the address of a page on GitHub, as a browser shows it, the repository's is taken.
The Colab buttons of the pages need nothing: they follow BOOK_REPO_URL or the git remote (`book/_extensions/launch.py`).
"""

import os
import re
import sys
from pathlib import Path
from urllib.parse import quote

ROOT = Path(__file__).parent.parent
ADDRESS = re.compile(r"(https?|file)://[^\s\"'\\<>@?#]+")
GITHUB = re.compile(  # owner and name; without them where the page is of no repository
    r"https?://(?:www\.)?github\.com/(?:(?!(?:orgs|users|settings)/)([\w-]+)/([\w.-]+?)(?:\.git)?(?:[/?#].*)?|.*)", re.I
)
PAGE = re.compile(  # for a browser, not for git
    r"https?://(?:[^/]*github\.io|[^/]*githubusercontent\.com|gist\.github\.com|colab\.research\.google\.com)(?:/.*)?"
    r"|https?://(?:bitbucket|codeberg)\.org/[^/]+/[^/]+/.+|https?://.+/(?:-|tree|blob)/.+",
    re.I,
)
PLACES = {  # where the address stands
    "book/**/*.ipynb": re.compile(r'(?<=REPOSITORY = \\")([^"\\]*)(?=\\")'),
    "book/index.md": re.compile(r"(?<=git clone )(\S+|<.*?>)(?= d2lnets-book )"),
    "README.md": re.compile(r"(?<=git clone )(\S+|<.*?>)(?= d2lnets-book )"),
}


def addresses(root=ROOT):
    """Which address each place names: a dictionary from (file, its number there) to the text."""
    return {
        (path.relative_to(root).as_posix(), number): found[1]
        for pattern, place in PLACES.items()
        for path in sorted(root.glob(pattern))
        for number, found in enumerate(place.finditer(_read(path)))
    }


def _read(path):
    return path.read_bytes().decode()  # UTF-8 in every locale, line ends as they are


def fork(url, root=ROOT):
    """Write `url` to every place; how many files changed. A path here, and GitHub's SSH address, become addresses.

    Raises:
        ValueError: `url` is not an address that git can clone from.
    """
    given = url
    url = os.path.expanduser(re.sub(r"^(ssh://)?git@github\.com[:/]", "https://github.com/", url.strip()))
    url = (f"file://{quote(url)}" if url.startswith("/") else url).removesuffix("/").removesuffix(".git")
    if page := GITHUB.fullmatch(url):
        url = "https://github.com/{}/{}".format(*page.groups()) if page[2] else ""
    if not ADDRESS.fullmatch(url) or PAGE.fullmatch(url):
        raise ValueError(f"an address like https://github.com/owner/name is needed, that git can clone; got {given!r}")
    texts = {}
    for pattern, place in PLACES.items():
        for path in root.glob(pattern):
            text = _read(path)
            new = place.sub(url, text)
            if new != text:
                texts[path] = new
    for path, text in texts.items():
        path.write_bytes(text.encode())
    return len(texts)


if __name__ == "__main__":
    try:
        print(f"{fork(*sys.argv[1:2] or [''])} files changed. Look at `git diff`, and commit.")
    except ValueError as error:
        sys.exit(f"fork: {error}")
