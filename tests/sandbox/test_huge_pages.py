"""Huge pages under the warm process's memory: only what may be moved is, and nothing in it changes."""

from __future__ import annotations

import ctypes
import mmap
from types import SimpleNamespace

import pytest

from sandbox import huge_pages, syscalls


def test_what_memory_holds_stays_as_it_is() -> None:
    pages = mmap.mmap(-1, 8 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    written = bytes(range(256)) * (len(pages) // 256)
    pages[:] = written
    huge_pages.collapse()
    assert pages[:] == written


def test_only_whole_huge_pages_of_private_memory_without_a_file_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int, int]] = []

    class Madvise:
        argtypes: object = None

        def __call__(self, start: int, size: int, advice: int) -> int:
            asked.append((start, size, advice))
            return 0

    mine = mmap.mmap(-1, 8 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    shared = mmap.mmap(-1, 8 << 20)  # of all processes: moving it is not this one's matter
    monkeypatch.setattr(syscalls, "libc", lambda: SimpleNamespace(madvise=Madvise()))
    huge_pages.collapse()
    assert all(start % (2 << 20) == 0 and size % (2 << 20) == 0 and advice == 25 for start, size, advice in asked)

    def inside(block: mmap.mmap) -> bool:
        address = ctypes.addressof(ctypes.c_char.from_buffer(block))
        return any(start <= address + (4 << 20) < start + size for start, size, _ in asked)

    assert inside(mine)
    assert not inside(shared)
