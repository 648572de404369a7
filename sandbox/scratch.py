"""Removes a folder that a candidate wrote in, and reads the one file that counts there.

Both take the folder as hostile: links, pipes, folders nested thousands deep, folders without permissions. Knows
nothing of what the files mean.
"""

from __future__ import annotations

import contextlib
import logging
import os
import stat
import time
import uuid
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

_log = logging.getLogger(__name__)
_BATCH = 1_000


def read_regular(name: str, *, folder: int, limit: int) -> bytes | None:
    """The file `name` in the open folder `folder`, or None where it is missing, a link, not a regular file, or larger
    than `limit` bytes. Never blocks on a pipe."""
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    except OSError:
        return None
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_size > limit:
            return None
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            raw = file.read(limit + 1)
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return raw if len(raw) <= limit else None


def remove_tree(path: Path, *, seconds: float) -> bool:
    """Removes `path` and all below it, for at most `seconds`; whether nothing is left. Never raises and never
    recurses: what a folder holds is moved up before the folder goes, so depth costs nothing."""
    try:
        if not stat.S_ISDIR(path.lstat().st_mode):
            path.unlink()
            return True
        with _opened(str(path), within=None) as folder:
            _clear(folder, deadline=time.monotonic() + seconds)
        path.rmdir()
    except FileNotFoundError:
        return True
    except OSError as error:
        _log.warning("what a candidate left at %s stays: %s", path, error)
        return False
    return True


@contextlib.contextmanager
def _opened(name: str, *, within: int | None) -> Iterator[int]:
    with contextlib.suppress(OSError):
        os.chmod(name, 0o700, dir_fd=within)
    descriptor = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=within)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _batches(folder: int, *, deadline: float) -> Iterator[list[os.DirEntry[str]]]:
    """What the folder holds, read again after each batch until it is empty or the time is up."""
    while time.monotonic() < deadline:
        with os.scandir(folder) as entries:
            batch = list(islice(entries, _BATCH))
        if not batch:
            return
        yield batch


def _clear(top: int, *, deadline: float) -> None:
    for batch in _batches(top, deadline=deadline):
        for entry in batch:
            if not entry.is_dir(follow_symlinks=False):
                os.unlink(entry.name, dir_fd=top)
                continue
            with _opened(entry.name, within=top) as folder:
                _hoist(folder, top, deadline=deadline)
            os.rmdir(entry.name, dir_fd=top)


def _hoist(folder: int, top: int, *, deadline: float) -> None:
    """Empties `folder`: its files go, its folders move to `top`, under names that nobody has."""
    for batch in _batches(folder, deadline=deadline):
        for entry in batch:
            if not entry.is_dir(follow_symlinks=False):
                os.unlink(entry.name, dir_fd=folder)
                continue
            with contextlib.suppress(OSError):
                os.chmod(entry.name, 0o700, dir_fd=folder)  # a folder that may not be written cannot be moved
            os.rename(entry.name, uuid.uuid4().hex, src_dir_fd=folder, dst_dir_fd=top)
