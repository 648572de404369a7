"""The trusted side of the sandbox: starts a warm process and has it fork one child a call.

The warm process (`zygote_main.py`) has torch and triton imported and no GPU. Requests and results are files in a
private scratch folder, so a child can neither block its parent nor half-write a message that anybody reads. One call
at a time: keep one Zygote per core that traces. Knows nothing of what the children do.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sandbox import control_group, isolation, wire
from sandbox.canaries import CANARIES, escaped
from sandbox.control_group import ControlGroup, Refusals
from sandbox.scratch import read_regular, remove_tree
from sandbox.settings import Limits

_log = logging.getLogger(__name__)
_START_SECONDS = 120.0
_STDERR_BYTES = 16 << 20
_REMOVAL_SECONDS = 20.0  # then the rest of what a child left stays until the zygote's own folder goes
_CANARY_LIMITS = Limits(
    wall_seconds=20, cpu_seconds=10, memory_bytes=1 << 30, output_bytes=1 << 16, file_bytes=1 << 16, num_processes=8
)
_GRACE_SECONDS = 10.0  # beyond a child's deadline before the warm process itself is given up
_LEAVE_SECONDS = 2.0  # for a warm process that is told to leave
_SLICE_SECONDS = 0.1  # of waiting for it: whoever waits can be interrupted between two, as `interruptible` does


class SandboxError(RuntimeError):
    """Our fault, not the candidate's: a dead worker, a full disk. Callers retry a bounded number of times."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildOutcome:
    """How one child ended. `result` is what it wrote, or None; hostile data either way. `out_of_memory`: its control
    group's limit ended a process of its, after which no result counts."""

    result: bytes | None
    exit_code: int | None
    signal: int | None
    timed_out: bool
    cpu_seconds: float
    max_rss_bytes: int
    wall_seconds: float
    out_of_memory: bool


class Zygote:
    """A warm process that forks children on request, ready for the named entries. Use as a context manager, or call
    `close`."""

    def __init__(self, entries: tuple[str, ...], *, isolation_level: str) -> None:
        self._entries = entries
        self._layers = isolation.layers_for(isolation_level)
        self.not_stopped: tuple[str, ...] = ()
        self._root = Path(tempfile.mkdtemp(prefix="kernelloop-"))
        self._root.chmod(0o711)  # children may be another user's; each folder in it is closed to all but its own
        self._group: ControlGroup | None = None
        self._owes_answer = True
        try:
            if "control_group" in self._layers:
                self._group = control_group.make()
            self._process = self._start()
        except OSError as error:
            self._remove()
            raise SandboxError(f"the sandbox did not start: {error}") from error
        try:
            if self._answer(deadline=time.monotonic() + _START_SECONDS).get("ready") is not True:
                raise SandboxError(f"the sandbox did not start: {self._last_words()}")
            self._inherited_bytes = _private_bytes(self.pid)
            # The warm process and its threads are in the group; a supervisor joins them for each child.
            self._num_others = 1 + (self._group.num_tasks() if self._group is not None else 0)
            if isolation_level != "off":
                self._try_the_walls(strict=isolation_level == "strict")
        except BaseException:
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
            path for path in (str(Path(__file__).parent.parent), *sys.path) if os.path.isabs(path)
        )
        group = self._group
        joins = (group.folders, group.outside) if group is not None else ((), ())
        with (home / "stderr").open("wb") as stderr:
            return subprocess.Popen(
                # -P: nothing is imported from the working folder, which candidates of the same user can write.
                [sys.executable, "-P", "-m", "sandbox.zygote_main", *map(json.dumps, (self._entries, *joins))],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env=environment,
                cwd=home,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def _try_the_walls(self, *, strict: bool) -> None:
        """Has a throw-away child try what the layers forbid. Raises IsolationError where one does not hold, and, if
        `strict`, where nothing stops a deed at all."""
        request = {"watcher": os.getpid(), "num_processes": _CANARY_LIMITS.num_processes}
        outcome = self.run("canaries", wire.pack(request), limits=_CANARY_LIMITS)
        if outcome.result is None:
            raise SandboxError(f"the sandbox's canaries did not answer: {outcome}")
        through = escaped(wire.unpack(outcome.result)[0])
        broken = [name for name in through if strict or not CANARIES[name].isdisjoint(self._layers)]
        if broken:
            raise isolation.IsolationError(f"the sandbox does not stop: {', '.join(broken)}")
        self.not_stopped = through
        if through:
            _log.warning("isolation is best effort, and this machine stops no candidate from: %s", ", ".join(through))

    def run(self, entry: str, request: bytes, *, limits: Limits, without: tuple[str, ...] = ()) -> ChildOutcome:
        """Forks a child that runs `entry` on `request` under `limits`, behind all layers but those `without`, which
        tests name to show what each is good for. Raises SandboxError if the warm process fails."""
        try:
            # A name that no earlier child could have taken.
            scratch = Path(tempfile.mkdtemp(prefix="call-", dir=self._root))
        except OSError as error:
            raise SandboxError(f"sandbox call failed: {error}") from error
        try:
            folder = os.open(scratch, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                (scratch / "request").write_bytes(request)
                layers = tuple(name for name in self._layers if name not in without)
                return self._call(entry, scratch, limits, folder=folder, layers=layers)
            finally:
                os.close(folder)
        except OSError as error:
            raise SandboxError(f"sandbox call failed: {error}") from error
        finally:
            remove_tree(scratch, seconds=_REMOVAL_SECONDS)

    def _call(self, entry: str, scratch: Path, limits: Limits, *, folder: int, layers: tuple[str, ...]) -> ChildOutcome:
        start = time.monotonic()
        before = self._bound(limits, layers=layers)
        message = {"entry": entry, "scratch": str(scratch), "limits": asdict(limits), "layers": layers}
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(message).encode() + b"\n")
        self._process.stdin.flush()
        self._owes_answer = True
        reply = self._answer(deadline=start + limits.wall_seconds + _GRACE_SECONDS)
        if "error" in reply:
            raise SandboxError(f"sandbox call failed: {reply['error']}")
        ended = before is not None and self._group is not None and self._group.refused().killed_since(before)
        return ChildOutcome(
            # By descriptor: the path may lead elsewhere by now.
            result=None if ended else read_regular("result", folder=folder, limit=limits.output_bytes),
            exit_code=reply["exit_code"],
            signal=reply["signal"],
            timed_out=reply["timed_out"],
            cpu_seconds=reply["cpu_seconds"],
            max_rss_bytes=reply["max_rss_bytes"],
            wall_seconds=time.monotonic() - start,
            out_of_memory=ended,
        )

    def _bound(self, limits: Limits, *, layers: tuple[str, ...]) -> Refusals | None:
        """Gives the control group the limits of the next call, and says what it has refused so far; None where the call
        is bounded by none. Raises OSError."""
        if self._group is None:
            return None
        if "control_group" not in layers:
            self._group.unlimit()
            return None
        self._group.limit(limits, inherited_bytes=self._inherited_bytes, num_others=self._num_others)
        return self._group.refused()

    def _answer(self, *, deadline: float) -> dict[str, Any]:
        """The next line from the warm process, which is trusted; children cannot reach this pipe."""
        import select

        assert self._process.stdout is not None
        while not select.select([self._process.stdout], [], [], _SLICE_SECONDS)[0]:
            if time.monotonic() >= deadline:
                words = self._last_words()
                self.close()
                raise SandboxError(f"the sandbox does not answer: {words}")
        line = self._process.stdout.readline()
        self._owes_answer = False
        if not line:
            raise SandboxError(f"the sandbox died: {self._last_words()}")
        try:
            reply: dict[str, Any] = json.loads(line)
        except ValueError as error:
            raise SandboxError(f"the sandbox answers nonsense: {self._last_words()}") from error
        return reply

    def _last_words(self) -> str:
        """The last line that the warm process wrote, which for a Python error is the error itself."""
        try:
            folder = os.open(self._root / "zygote", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError:
            return "no output"
        try:
            raw = read_regular("stderr", folder=folder, limit=_STDERR_BYTES) or b""
        finally:
            os.close(folder)
        lines = raw.decode(errors="replace").strip().splitlines()
        return lines[-1][:400] if lines else "no output"

    def close(self) -> None:
        """Ends the warm process and all that it started, and removes the scratch folder."""
        process = self._process
        if process.poll() is None:
            # Closing the pipe lets it kill its children and leave; the group is killed in case it cannot, and at once
            # where an answer is due: who starts up or waits for a child does not look at the pipe.
            if process.stdin is not None:
                with contextlib.suppress(OSError):  # a request that it did not take
                    process.stdin.close()
            try:
                process.wait(timeout=0.0 if self._owes_answer else _LEAVE_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        self._remove()

    def _remove(self) -> None:
        if self._group is not None and not self._group.remove():
            _log.warning("a control group stays: %s", ", ".join(self._group.folders))
        remove_tree(self._root, seconds=_REMOVAL_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


def _private_bytes(pid: int) -> int:
    """What of a process's memory a fork of it would copy by writing to it. Raises OSError."""
    _, resident, shared, *_ = map(int, Path(f"/proc/{pid}/statm").read_text().split())
    return (resident - shared) * os.sysconf("SC_PAGE_SIZE")
