"""Which tests are slow, and how all are spread over processes: by file, each chapter alone, the longest first."""

import pytest

FIRST = (  # the longest; what waits more than it computes before all; one chapter makes Colab's environment for all
    "test_sandbox", "test_taking", "test_teaching", "test_course", "in_colab_what_is_stored[densenet]", "test_lab",
    "test_a_chapter_prints", "test_checkpoint", "test_pages", "test_browsers", "test_parallel", "test_runs",
    "test_bench", "test_loop", "test_checks", "test_torchvision", "test_keras", "test_sources",
)  # fmt: skip
SLOW = (  # they train, start processes, or load other libraries' networks: `make check` leaves them to `make test`
    "tests/training/", "test_export", "test_torchvision", "test_keras", "test_command", "test_teaching", "test_sources",
    "test_sandbox", "test_taking", "test_course", "test_slides",
    "test_two_processes_at_once", "test_a_killed_download", "test_checkpointing_needs_less_memory",
    "test_figures_exports_and_records", "test_a_run_is_recorded_once",
)  # fmt: skip


def pytest_collection_modifyitems(items):
    def place(item):
        return next((i for i, name in enumerate(FIRST) if name in item.nodeid), len(FIRST))

    items.sort(key=place)
    for item in items:
        if any(name in item.nodeid for name in SLOW):
            item.add_marker(pytest.mark.slow)


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist
def pytest_xdist_make_scheduler(config, log):
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            return nodeid if "test_a_chapter_prints" in nodeid else nodeid.partition("::")[0]

    config.option.loadscopereorder = False  # else the files with the most tests come first, and each chapter last
    return ByFile(config, log)
