"""The page on the package has every name that a notebook takes from it."""

import ast

import nbformat
from helpers import HTML, ROOT
from sphinx.util.inventory import InventoryFile

ROOMS = {"checks", "evidence", "imagenet", "later", "networks", "plots", "probes"}  # modules that chapters import whole


def used():
    """The names of d2lnets in the notebooks' code: what is imported, and what is asked of the modules."""
    for path in sorted((ROOT / "book").rglob("*.ipynb")):
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type == "code":
                for node in ast.walk(ast.parse(cell.source)):
                    if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("d2lnets"):
                        yield from ((f"{node.module}.{alias.name}", path.stem) for alias in node.names)
                    elif isinstance(node, ast.Attribute) and ast.unparse(node.value) in {"d2lnets"} | ROOMS:
                        yield ast.unparse(node), path.stem


def test_every_name_that_notebooks_take_is_documented():
    with (HTML / "objects.inv").open("rb") as file:
        told = InventoryFile.load(file, "", lambda base, path: path)
    names = {name for kind in told if kind.startswith("py:") for name in told[kind]}
    parts = {".".join(name.split(".")[:i]) for name in names for i in range(1, 5)}  # modules of what is told
    last = {name.rpartition(".")[2] for name in names}
    missing = {
        (name, page)
        for name, page in used()
        if name not in parts and f"d2lnets.{name}" not in parts and name.rpartition(".")[2] not in last
    }
    assert not missing, "\n".join(f"{name}, in {page}" for name, page in sorted(missing))
