"""How nbgrader grades the course."""

import os
import sys
from pathlib import Path


def configure(config, folder):
    """`config` of nbgrader for the course in `folder`."""
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # nbgrader calls alembic
    directory = config.CourseDirectory
    directory.root = str(folder)
    directory.db_url = f"sqlite:///{folder / 'gradebook.db'}?timeout=120"  # several notebooks at a time
    # the book's own empty answers stay, in place of nbgrader's
    config.GenerateAssignment.preprocessors = [
        f"nbgrader.preprocessors.{name}"
        for name in (
            "LockCells", "ClearOutput", "CheckCellMetadata", "ComputeChecksums", "SaveCells", "ClearHiddenTests",
            "ComputeChecksums", "CheckCellMetadata",
        )
    ]  # fmt: skip
    return config
