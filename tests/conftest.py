"""How the tests are spread over processes: by file, and each chapter for itself; those that take longest begin."""

import pytest

FIRST = ("test_a_chapter_prints", "test_parallel", "test_lab", "test_loop", "test_checks")  # the longest


@pytest.hookimpl(tryfirst=True)  # before the plugin that reads the groups
def pytest_collection_modifyitems(config, items):
    def place(item):
        return next((i for i, name in enumerate(FIRST) if name in item.nodeid), len(FIRST))

    items.sort(key=place)
    if not config.pluginmanager.hasplugin("xdist"):
        return
    for item in items:
        alone = item.name if item.name.startswith("test_a_chapter_prints") else item.location[0]
        item.add_marker(pytest.mark.xdist_group(alone))
