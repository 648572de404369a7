"""The trusted side of the sandbox: starts a warm process and has it fork one child a call.

The warm process (`zygote_main.py`) has torch and triton imported and no GPU. Requests and results are files in a
private scratch folder, so a child can neither block its parent nor half-write a message that anybody reads. One call
at a time: keep one Zygote per core that traces. Knows nothing of what the children do.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sandbox import isolation
from sandbox.types import Limits

_log = logging.getLogger(__name__)
_START_SECONDS = 120.0
_GRACE_SECONDS = 10.0  # beyond a child's deadline before the warm process itself is given up


class SandboxError(RuntimeError):
    """Our fault, not the candidate's: a dead worker, a full disk. Callers retry a bounded number of times."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildOutcome:
    """How one child ended. `result` is what it wrote, or None; hostile data either way."""

    result: bytes | None
    exit_code: int | None
    signal: int | None
    timed_out: bool
    cpu_seconds: float
    max_rss_bytes: int
    wall_seconds: float


class Zygote:
    """A warm process that forks children on request, ready for the named entries. Use as a context manager, or call
    `close`."""

    def __init__(self, entries: tuple[str, ...], *, isolation_level: str) -> None:
        self._entries = entries
        self._layers = isolation.layers_for(isolation_level)
        self._root = Path(tempfile.mkdtemp(prefix="kernelloop-"))
        self._calls = 0
        try:
            self._process = self._start()
        except SandboxError:
            self.close()
            raise

    def _start(self) -> subprocess.Popen[bytes]:
        home = self._root / "zygote"
        home.mkdir(mode=0o700)
        environment = isolation.scrubbed_environment(str(home))
        if "interpret" in self._entries:
            # Triton decides between compiling and interpreting when a function is decorated, its own library's at
            # import.
            environment["TRITON_INTERPRET"] = "1"
        environment["PYTHONPATH"] = os.pathsep.join(
            path for path in (str(Path(__file__).parent.parent), *sys.path) if path
        )
        with (home / "stderr").open("wb") as stderr:
            process = subprocess.Popen(
                [sys.executable, "-m", "sandbox.zygote_main", json.dumps([self._layers, self._entries])],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env=environment,
                cwd=home,
                start_new_session=True,
            )
        self._process = process
        if self._answer(deadline=time.monotonic() + _START_SECONDS).get("ready") is not True:
            raise SandboxError(f"the sandbox did not start: {self._last_words()}")
        return process

    @property
    def pid(self) -> int:
        return self._process.pid

    def run(self, entry: str, request: bytes, *, limits: Limits) -> ChildOutcome:
        """Forks a child that runs `entry` on `request` under `limits`. Raises SandboxError if the warm process
        fails."""
        self._calls += 1
        scratch = self._root / f"call-{self._calls}"
        try:
            scratch.mkdir(mode=0o700)
            (scratch / "request").write_bytes(request)
            return self._call(entry, scratch, limits)
        except OSError as error:
            raise SandboxError(f"sandbox call failed: {error}") from error
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def _call(self, entry: str, scratch: Path, limits: Limits) -> ChildOutcome:
        start = time.monotonic()
        message = {"entry": entry, "scratch": str(scratch), "limits": asdict(limits)}
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(message).encode() + b"\n")
        self._process.stdin.flush()
        reply = self._answer(deadline=start + limits.wall_seconds + _GRACE_SECONDS)
        if "error" in reply:
            raise SandboxError(f"sandbox call failed: {reply['error']}")
        return ChildOutcome(
            result=_read_result(scratch / "result", limit=limits.output_bytes),
            exit_code=reply["exit_code"],
            signal=reply["signal"],
            timed_out=reply["timed_out"],
            cpu_seconds=reply["cpu_seconds"],
            max_rss_bytes=reply["max_rss_bytes"],
            wall_seconds=time.monotonic() - start,
        )

    def _answer(self, *, deadline: float) -> dict[str, Any]:
        """The next line from the warm process, which is trusted; children cannot reach this pipe."""
        import select

        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], max(0.0, deadline - time.monotonic()))[0]:
            self.close()
            raise SandboxError(f"the sandbox does not answer: {self._last_words()}")
        line = self._process.stdout.readline()
        if not line:
            raise SandboxError(f"the sandbox died: {self._last_words()}")
        reply: dict[str, Any] = json.loads(line)
        return reply

    def _last_words(self) -> str:
        """The last line that the warm process wrote, which for a Python error is the error itself."""
        try:
            lines = (self._root / "zygote" / "stderr").read_text(errors="replace").strip().splitlines()
        except OSError:
            lines = []
        return lines[-1][:400] if lines else "no output"

    def close(self) -> None:
        """Ends the warm process and all that it started, and removes the scratch folder."""
        process = self._process
        if process.poll() is None:
            # Closing the pipe lets it kill its children and leave; the group is killed in case it cannot.
            if process.stdin is not None:
                process.stdin.close()
            try:
                process.wait(timeout=2.0)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()
        shutil.rmtree(self._root, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


def _read_result(path: Path, *, limit: int) -> bytes | None:
    """What the child left, unless it is a link, not a file, or too large."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        raw = file.read(limit + 1)
    return raw if len(raw) <= limit else None
