"""Files: where a path leads, and contents that are whole, or as they were before."""

import os
from contextlib import suppress
from pathlib import Path


class CheckpointError(RuntimeError):
    """A file cannot be written, or a training cannot be gone on from; the message says what to do."""


def expanded(path: Path | str) -> Path:
    """A path as a shell would have it: a leading ``~`` is the home folder, and a name like ``~draft`` is a name."""
    return Path(os.path.expanduser(path))  # Path.expanduser would refuse ~draft


def write(path: Path, content: bytes | None) -> None:
    """Write bytes to a file, so that it is whole or, as it was before, untouched; with None only see that one could.

    Raises:
        CheckpointError: the folder cannot be written, or the disk is full.
    """
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            if content is None:
                return
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        kept = "what was saved before is intact" if path.exists() else "nothing was saved"
        raise CheckpointError(
            f"cannot write {path} ({error.strerror}); {kept}. Free some space or choose another folder, then resume"
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
