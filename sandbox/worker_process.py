"""Keeps one long-lived trusted child process: sends requests, awaits answers under a deadline, kills it when late.

Messages are `sandbox.wire` with a length in front, over the child's standard input and output. Knows nothing of what
they mean.
"""

from __future__ import annotations

import logging
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from sandbox import wire
from sandbox.zygote import SandboxError

_log = logging.getLogger(__name__)
_LENGTH_BYTES = 8
_MAX_ANSWER_BYTES = 64 << 20
_TAIL_CHARACTERS = 800


class WorkerLate(RuntimeError):
    """The worker did not answer in time. `call` has killed it; after `receive` that is the caller's to do."""


class WorkerEnded(RuntimeError):
    """The worker ended by itself, or was killed by somebody else. `signal` is None if it left by itself."""

    def __init__(self, ended_by: int | None, output: str) -> None:
        super().__init__(ended_by, output)
        self.signal, self.output = ended_by, output

    @property
    def killed_from_outside(self) -> bool:
        """Whether the signal is one that no kernel and no library sends."""
        return self.signal in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

    def __str__(self) -> str:
        how = "left without an answer" if self.signal is None else f"was killed by signal {self.signal}"
        return f"the worker {how}: {self.output or 'no output'}"


def write_message(stream: BinaryIO, body: Any, blobs: Sequence[bytes] = ()) -> None:
    """Sends one message."""
    raw = wire.pack(body, blobs)
    stream.write(len(raw).to_bytes(_LENGTH_BYTES, "big"))
    stream.write(raw)
    stream.flush()


def read_message(stream: BinaryIO) -> tuple[Any, list[memoryview]] | None:
    """The next message, waiting for it; None at the end of the stream. For the worker, whose judge is trusted."""
    head = stream.read(_LENGTH_BYTES)
    if len(head) < _LENGTH_BYTES:
        return None
    return wire.unpack(stream.read(int.from_bytes(head, "big")))


class WorkerProcess:
    """One child in its own session, with its own home folder. Starting it returns at once; the first call waits."""

    def __init__(self, command: Sequence[str], *, environment: Callable[[str], Mapping[str, str]]) -> None:
        """`environment` gives the whole of it for a home folder. Raises SandboxError."""
        self._home = Path(tempfile.mkdtemp(prefix="kernelloop-worker-"))
        try:
            with (self._home / "stderr").open("wb") as errors:
                self._process = subprocess.Popen(
                    list(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors,
                    env=dict(environment(str(self._home))), cwd=self._home, start_new_session=True,
                )  # fmt: skip
        except OSError as error:
            shutil.rmtree(self._home, ignore_errors=True)
            raise SandboxError(f"the worker cannot be started: {error}") from error

    @property
    def pid(self) -> int:
        return self._process.pid

    def call(self, body: Any, blobs: Sequence[bytes] = (), *, deadline_seconds: float) -> Any:
        """Sends a request and returns the answer's body. Raises WorkerLate (and kills it) or WorkerEnded."""
        deadline = time.monotonic() + deadline_seconds
        try:
            self.send(body, blobs, deadline=deadline)
            return self.receive(deadline=deadline)
        except WorkerLate:
            self.kill()
            raise

    @property
    def answered(self) -> bool:
        """Whether `receive` would find something at once: an answer, or the worker's end."""
        assert self._process.stdout is not None
        return bool(select.select([self._process.stdout], [], [], 0.0)[0])

    def send(self, body: Any, blobs: Sequence[bytes] = (), *, deadline: float) -> None:
        """Sends a request; `deadline` is a time of `time.monotonic`. Raises WorkerLate or WorkerEnded."""
        try:
            self._send(wire.pack(body, blobs), deadline)
        except BrokenPipeError:
            raise self._ended() from None

    def receive(self, *, deadline: float) -> Any:
        """The body of the answer to what was sent. Raises WorkerLate, WorkerEnded, or SandboxError where it is none."""
        try:
            head = self._read(_LENGTH_BYTES, deadline)
            length = int.from_bytes(head, "big")
            if length > _MAX_ANSWER_BYTES:
                raise SandboxError(f"the worker's answer of {length} bytes is beyond {_MAX_ANSWER_BYTES}")
            return wire.unpack(self._read(length, deadline))[0]
        except wire.WireError as error:
            raise SandboxError(f"the worker's answer is not a message: {error}") from error

    def _send(self, raw: bytes, deadline: float) -> None:
        assert self._process.stdin is not None
        descriptor = self._process.stdin.fileno()
        os.set_blocking(descriptor, False)  # a worker that does not read must not hold its judge
        left = memoryview(len(raw).to_bytes(_LENGTH_BYTES, "big") + raw)
        while left:
            self._wait([], [descriptor], deadline)
            left = left[os.write(descriptor, left) :]

    def _wait(self, readable: list[int], writable: list[int], deadline: float) -> None:
        ready = select.select(readable, writable, [], max(0.0, deadline - time.monotonic()))
        if not (ready[0] or ready[1]):
            raise WorkerLate("the worker did not answer in time")

    def _read(self, num_bytes: int, deadline: float) -> bytes:
        assert self._process.stdout is not None
        descriptor, parts, missing = self._process.stdout.fileno(), [], num_bytes
        while missing:
            self._wait([descriptor], [], deadline)
            part = os.read(descriptor, min(missing, 1 << 20))
            if not part:
                raise self._ended()
            parts.append(part)
            missing -= len(part)
        return b"".join(parts)

    def _ended(self) -> WorkerEnded:
        try:
            code = self._process.wait(timeout=10.0)
        except subprocess.TimeoutExpired:
            self.kill()
            code = self._process.wait()
        return WorkerEnded(-code if code < 0 else None, self.output_tail())

    def output_tail(self) -> str:
        """The last of what the worker wrote to standard error."""
        try:
            return (self._home / "stderr").read_text(errors="replace")[-_TAIL_CHARACTERS:].strip()
        except OSError:
            return ""

    def pause(self) -> None:
        """Stops the worker where it is. What it has given to a GPU runs to its end there."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Lets a paused worker go on; does nothing to another one."""
        self._signal(signal.SIGCONT)

    def strike(self) -> None:
        """Has the worker and all that it started killed, without waiting until they are gone."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        """To the worker and all that it started, if it has not ended."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, number)

    def kill(self) -> None:
        """Kills the worker and all that it started; a kernel that is still running ends with its context."""
        self.strike()
        self._process.wait()

    def close(self) -> None:
        """Kills the worker, which keeps nothing worth saving, and removes its folder."""
        self.kill()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                try:
                    stream.close()
                except BrokenPipeError:
                    _log.debug("a request to worker %d was cut off", self.pid)
        shutil.rmtree(self._home, ignore_errors=True)
