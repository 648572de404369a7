"""Keeps what kernels were compiled to, by the key of what they were compiled from.

Written by the trusted side alone, from the output of the compile child. In memory within bounds, and where there is a
folder on disk too, for other processes and later runs. A file is read back against a hash, which finds damage, not
somebody who may write to the folder: sandboxed children may not.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import logging
import os
import tempfile
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sandbox import wire
from sandbox.descriptors import form_from_json
from sandbox.plan import Kernel

_log = logging.getLogger(__name__)
# Fields of a plan's kernel that follow from its recipe, besides the cubin.
FIGURES = (
    "entry", "num_warps", "num_ctas", "shared_bytes", "global_scratch_bytes", "global_scratch_align",
    "profile_scratch_bytes", "cooperative", "pdl", "num_registers", "local_bytes", "dots",
    "descriptors",
)  # fmt: skip
_TRIM_EVERY = 256  # writes


@dataclass(frozen=True, slots=True, kw_only=True)
class CompiledKernel:
    """What one recipe was compiled to. `figures` has the fields of `plan.Kernel` that `FIGURES` names."""

    cubin: bytes
    figures: Mapping[str, Any]

    def __post_init__(self) -> None:
        if set(self.figures) != set(FIGURES):
            raise ValueError(f"a compiled kernel has the figures {', '.join(FIGURES)}")

    def put_into(self, kernel: Kernel, *, capability: int) -> Kernel:
        """The kernel of a plan with these figures and this cubin in place of its own."""
        forms = tuple(map(form_from_json, self.figures["descriptors"]))
        figures = {**self.figures, "dots": tuple(self.figures["dots"]), "descriptors": forms}
        return dataclasses.replace(kernel, cubin=self.cubin, capability=capability, **figures)


class KernelStore:
    """Compiled kernels by key. `folder` None keeps them in memory only. A disk that fails costs time, never a
    verdict."""

    def __init__(self, folder: Path | None, *, memory_bytes: int, disk_bytes: int) -> None:
        self._folder, self._memory_bytes, self._disk_bytes = folder, memory_bytes, disk_bytes
        self._kept: OrderedDict[str, CompiledKernel] = OrderedDict()
        self._kept_bytes = 0
        self._writes = 0

    def get(self, key: str) -> CompiledKernel | None:
        """What was put under `key`, or None."""
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        found = None if self._folder is None else self._read(self._path(key), key)
        if found is not None:
            self._keep(key, found)
        return found

    def put(self, key: str, kernel: CompiledKernel) -> None:
        """Keeps `kernel`; the least recently used go where there is no room."""
        self._keep(key, kernel)
        if self._folder is None:
            return
        try:
            self._write(self._path(key), key, kernel)
            if self._writes % _TRIM_EVERY == 0:
                self._trim()
            self._writes += 1
        except OSError as error:
            _log.warning("a compiled kernel is not kept on disk: %s", error)

    def _keep(self, key: str, kernel: CompiledKernel) -> None:
        self._kept_bytes += len(kernel.cubin) - (len(self._kept[key].cubin) if key in self._kept else 0)
        self._kept[key] = kernel
        self._kept.move_to_end(key)
        while self._kept_bytes > self._memory_bytes and len(self._kept) > 1:
            _, dropped = self._kept.popitem(last=False)
            self._kept_bytes -= len(dropped.cubin)

    def _path(self, key: str) -> Path:
        assert self._folder is not None
        return self._folder / key[:2] / key

    def _read(self, path: Path, key: str) -> CompiledKernel | None:
        try:
            raw = path.read_bytes()
        except OSError:
            return None
        digest, _, message = raw.partition(b"\n")
        try:
            if digest != _digest(key, message):
                raise ValueError("its hash is another")
            figures, (cubin,) = wire.unpack(message)
            return CompiledKernel(cubin=bytes(cubin), figures=figures)
        except (ValueError, TypeError) as error:
            _log.warning("a compiled kernel on disk is damaged and is compiled again: %s: %s", path, error)
            with contextlib.suppress(OSError):
                path.unlink()
            return None

    def _write(self, path: Path, key: str, kernel: CompiledKernel) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        message = wire.pack(dict(kernel.figures), [kernel.cubin])
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".new-")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(_digest(key, message) + b"\n" + message)
            os.replace(name, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(name)
            raise

    def _trim(self) -> None:
        """Removes the oldest files while there are too many bytes; other processes may do the same at the same
        time."""
        assert self._folder is not None
        files = []
        for path in self._folder.glob("*/*"):
            with contextlib.suppress(OSError):
                state = path.stat()
                files.append((state.st_mtime, state.st_size, path))
        total = sum(size for _, size, _ in files)
        for _, size, path in sorted(files):
            if total <= self._disk_bytes:
                return
            with contextlib.suppress(OSError):
                path.unlink()
            total -= size


def _digest(key: str, message: bytes) -> bytes:
    """Over the key too, so that a file under another's name is noticed."""
    return hashlib.sha256(key.encode() + message).hexdigest().encode()
