"""Keeps what baselines took from one process to the next, one small JSON file a problem and set of conditions.

Knows nothing of how times are measured. A file that cannot be read is as good as none, and is written anew.
"""

from __future__ import annotations

import json
import logging
import math
import os
import stat
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from sandbox.types import BASELINES, content_hash
from sandbox.zygote import SandboxError

_log = logging.getLogger(__name__)
# Part of the key: counts up when times measured by an older version no longer compare.
_VERSION = "1"


@dataclass(frozen=True, slots=True, kw_only=True)
class BaselineTime:
    """How long one baseline takes, in microseconds on the device, in a "graph" or on a "stream"."""

    time_us: float
    kind: str

    def __post_init__(self) -> None:
        if not (isinstance(self.time_us, float) and math.isfinite(self.time_us) and self.time_us > 0):
            raise ValueError(f"a baseline's time must be positive and finite, not {self.time_us!r}")
        if self.kind not in ("graph", "stream"):
            raise ValueError(f"a baseline is timed in a graph or on a stream, not {self.kind!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What a file holds. `gpu_uuid` is the GPU that the times were measured on, None where nobody said."""

    times: Mapping[str, BaselineTime]
    gpu_uuid: str | None


_NOTHING = Kept(times={}, gpu_uuid=None)


def cache_key(problem_key: str, conditions: Mapping[str, str], *, precision: tuple[str, ...], kind: str) -> str:
    """One problem on one kind of GPU with one set of versions, under one precision policy, timed in one way."""
    told = [f"{name}={value}" for name, value in sorted(conditions.items())]
    return content_hash(_VERSION, problem_key, *told, *sorted(precision), kind)


class BaselineCache:
    """Baselines' times by `cache_key`. Raises SandboxError where the folder is not safe to use."""

    def __init__(self, folder: Path) -> None:
        self._folder = private_folder(folder)

    def load(self, key: str) -> Kept:
        """What is kept under `key`: no times if there is nothing, or nothing that can be read."""
        try:
            raw = json.loads((self._folder / f"{key}.json").read_text())
            found = {name: BaselineTime(**raw["baselines"][name]) for name in raw["baselines"]}
            gpu_uuid = raw["conditions"].get("gpu_uuid")
        except FileNotFoundError:
            return _NOTHING
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            _log.warning("baseline_cache_unreadable: %s: %s", key, error)
            return _NOTHING
        return Kept(times={name: time for name, time in found.items() if name in BASELINES}, gpu_uuid=gpu_uuid)

    def store(self, key: str, times: Mapping[str, BaselineTime], *, conditions: Mapping[str, str]) -> None:
        """Writes the whole file or nothing. A full disk costs the cache, not the verdict."""
        body = {"baselines": {name: asdict(time) for name, time in times.items()}, "conditions": dict(conditions)}
        try:
            with tempfile.NamedTemporaryFile("w", dir=self._folder, suffix=".part", delete=False) as file:
                json.dump(body, file)
            os.replace(file.name, self._folder / f"{key}.json")
        except OSError as error:
            _log.warning("baseline_cache_not_written: %s: %s", key, error)

    def drop(self, key: str) -> None:
        """Forgets what is kept under `key`."""
        (self._folder / f"{key}.json").unlink(missing_ok=True)


def private_folder(folder: Path) -> Path:
    """Makes `folder` for this user alone. Raises SandboxError where others could plant files: what compilers keep there
    is run."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.stat()
    except OSError as error:
        raise SandboxError(f"the cache folder {folder} cannot be used: {error}") from error
    if found.st_uid != os.getuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise SandboxError(f"the cache folder {folder} is not this user's alone to write; judge.cache_dir names it")
    return folder
