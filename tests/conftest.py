"""Which tests are slow, and how all are spread over processes: by file, each chapter alone, the longest first."""

import pytest

FIRST = ("test_a_chapter_prints", "test_parallel", "test_lab", "test_loop", "test_checks")  # the longest

SLOW = (  # they train, start processes, or load other libraries' networks: `make check` leaves them to `make test`
    "tests/training/", "test_export", "test_torchvision", "test_keras", "test_command", "test_teaching", "test_sources",
    "test_two_processes_at_once", "test_a_killed_download",
)  # fmt: skip


@pytest.hookimpl(tryfirst=True)  # before the plugin that reads the groups
def pytest_collection_modifyitems(config, items):
    def place(item):
        return next((i for i, name in enumerate(FIRST) if name in item.nodeid), len(FIRST))

    items.sort(key=place)
    for item in items:
        if any(name in item.nodeid for name in SLOW):
            item.add_marker(pytest.mark.slow)
    if not config.pluginmanager.hasplugin("xdist"):
        return
    for item in items:
        alone = item.name if item.name.startswith("test_a_chapter_prints") else item.location[0]
        item.add_marker(pytest.mark.xdist_group(alone))
