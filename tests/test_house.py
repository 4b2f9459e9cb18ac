"""The house stands as it is drawn: nothing imports what is above it, and nothing itself by a detour."""

import ast
from graphlib import TopologicalSorter

import pytest
from helpers import ROOT

FLOORS = (  # from the ground up; a module may import its own floor and those below
    ("arguments", "files", "sight"),
    ("resnet", "densenet", "googlenet", "later", "data"),
    ("networks", "tracing", "imagenet", "export"),
    ("training",),
    ("",),  # d2lnets itself, which passes on what the floors below offer
    ("plots", "probes"),
    ("checks",),
    ("__main__",),
)
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted((ROOT / "d2lnets").rglob("*.py"))
}


def imported(path):
    """The modules of the package that a file imports where it is loaded: not in a function, nor for types alone."""
    found = set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for_types = [
        each for each in ast.walk(tree) if isinstance(each, ast.If) and "TYPE_CHECKING" in ast.unparse(each.test)
    ]
    functions = [each for each in ast.walk(tree) if isinstance(each, ast.FunctionDef)]
    later = {node for each in for_types + functions for node in ast.walk(each)}
    for node in ast.walk(tree):
        if node in later:
            continue
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "d2lnets":
            found |= {
                name if (name := f"{node.module}.{alias.name}") in MODULES else node.module for alias in node.names
            }
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.split(".")[0] == "d2lnets"}
    return found


def floor(module):
    room = [*module.split("."), ""][1]
    return next(i for i, rooms in enumerate(FLOORS) if room in rooms)


@pytest.mark.parametrize("module", MODULES)
def test_nothing_imports_what_is_above_it(module):
    for other in imported(MODULES[module]):
        assert floor(other) <= floor(module), other


def test_no_module_imports_itself_by_a_detour():
    graph = {module: imported(path) - {module} for module, path in MODULES.items()}
    list(TopologicalSorter(graph).static_order())  # raises CycleError


def test_the_networks_stand_alone():
    ground = {"d2lnets.arguments", "d2lnets.resnet"}
    for name in ("resnet", "densenet", "googlenet"):
        assert imported(MODULES[f"d2lnets.{name}"]) <= ground
