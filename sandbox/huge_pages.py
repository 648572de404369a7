"""Puts this process's anonymous memory into huge pages, so that forking it copies hundreds of entries in place of
hundred thousands.

The warm process has some 200 MiB of it, each child is forked twice, and copying and freeing the page tables took more
processor time than tracing a small candidate. Changes no content and no right. Where the kernel does not know the call
(before Linux 6.1) or has no huge page to give, memory stays as it is and forking costs what it did.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from pathlib import Path

from sandbox import syscalls

_MADV_COLLAPSE = 25
_HUGE_BYTES = 2 << 20  # of x86-64, and of arm64 with pages of 4 KiB


def collapse() -> None:
    """Asks for huge pages under all that is private, writable and of no file. Costs some tenths of a second."""
    madvise = syscalls.libc().madvise
    madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    for start, end in list(_anonymous()):
        start, end = -(-start // _HUGE_BYTES) * _HUGE_BYTES, end // _HUGE_BYTES * _HUGE_BYTES
        if start < end:
            madvise(start, end - start, _MADV_COLLAPSE)  # a refusal costs time alone


def _anonymous() -> Iterator[tuple[int, int]]:
    """First address and end of each such part of this process."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, rights, _, device, _, *name = line.split(maxsplit=5)
        if rights == "rw-p" and device == "00:00" and (not name or name[0] == "[heap]"):
            start, end = span.split("-")
            yield int(start, 16), int(end, 16)
