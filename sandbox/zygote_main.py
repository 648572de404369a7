"""The warm process: imports torch and triton once, then forks a supervised child for each request.

Trusted, single-threaded (so that forking is safe), without a GPU, and never runs what a model wrote: only its children
do, after `walls.lock_down`. Run as `python -m sandbox.zygote_main ENTRIES GROUP OUTSIDE`, three lists in JSON: the
second is the control group to enter, the third the one to leave it for. Requests and replies are JSON lines.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import resource
import select
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from sandbox import control_group, huge_pages, isolation, walls, wire
from sandbox.scratch import read_regular, remove_tree
from sandbox.settings import Limits
from sandbox.walls import Walls

_CLEAN_SECONDS = 10.0
_ENTRIES = {
    "canaries": "sandbox.canaries",
    "describe": "sandbox.describe",
    "names": "sandbox.name_table",
    "trace": "sandbox.trace",
    "compile": "sandbox.compile_kernels",
    "interpret": "sandbox.interpret",
}


def main() -> None:
    # Not die_with_parent: that signal follows the starting thread, not its process. The closed pipe ends the loop
    # instead.
    isolation.become_subreaper()
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not look like a reply
    entries, group, outside = map(json.loads, sys.argv[1:])
    _warm(("canaries", *entries))
    # Not before: what this process holds by now stays charged where it was, and only what children add counts.
    control_group.enter(group)
    _reply(replies, {"ready": True})
    for line in sys.stdin:
        request = json.loads(line)
        try:
            outcome = _supervised(request)
        except (OSError, isolation.IsolationError) as error:
            outcome = {"error": f"{type(error).__name__}: {error}"}
        _reply(replies, outcome)
    isolation.kill_children()
    # The pipe is closed: whoever started this process is done or dead, and may not have cleaned up.
    control_group.leave(group, outside=outside)
    remove_tree(Path.cwd().parent, seconds=_CLEAN_SECONDS)


def _reply(replies: Any, message: dict[str, Any]) -> None:
    replies.write(json.dumps(message) + "\n")
    replies.flush()


def _warm(entries: tuple[str, ...]) -> None:
    gc.disable()  # while importing it would look for garbage hundreds of times: a quarter of the start
    for entry in entries:
        importlib.import_module(_ENTRIES[entry]).warm()
    threads = [Path(f"/proc/self/task/{tid}/comm").read_text().strip() for tid in os.listdir("/proc/self/task")]
    # On a CUDA build PyTorch's first fake tensor starts a thread of the CUDA driver, named cuda..., which waits for
    # events. A child has no GPU and never needs what that thread may hold; any other thread could hold what it needs.
    if [name for name in threads if not name.startswith("cuda")] != threads[:1]:
        raise RuntimeError(f"the warm process has threads {threads}; forking it would not be safe")
    gc.collect()
    gc.freeze()
    gc.enable()
    huge_pages.collapse()


def _supervised(request: dict[str, Any]) -> dict[str, Any]:
    """Forks a supervisor, which forks the child, and returns the supervisor's report."""
    scratch = Path(request["scratch"])
    built = walls.build(tuple(request["layers"]), scratch=scratch)
    # Where the child has mounts of its own, its result is copied to where everybody can see it.
    copy = os.open(scratch / "copy", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600) if built.own_mounts else None
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        _supervise(request, built, writer=writer, copy=copy)
    os.close(writer)
    if copy is not None:
        os.close(copy)
    limits = Limits(**request["limits"])
    ready, _, _ = select.select([reader], [], [], limits.wall_seconds + 5.0)
    report = os.read(reader, 4096) if ready else b""
    os.close(reader)
    isolation.kill_children()
    if report:
        parsed: dict[str, Any] = json.loads(report)
        if parsed.get("copied"):
            (scratch / "copy").rename(scratch / "result")
        return parsed
    # The candidate killed its supervisor (possible without a PID namespace): its doing, so it is told as a killed
    # child.
    return {
        "exit_code": None,
        "signal": int(signal.SIGKILL),
        "timed_out": not ready,
        "cpu_seconds": 0.0,
        "max_rss_bytes": 0,
    }


def _supervise(request: dict[str, Any], built: Walls, *, writer: int, copy: int | None) -> None:
    """Runs in the supervisor: forks the child into its namespaces, waits under the deadline, reports, leaves."""
    code = 1
    try:
        os.setsid()
        walls.die_with_parent()
        isolation.become_subreaper()
        limits, scratch = Limits(**request["limits"]), Path(request["scratch"])
        message = (scratch / "request").read_bytes()
        (scratch / "request").unlink()
        walls.enter(built, scratch=scratch, max_bytes=limits.scratch_bytes)
        folder = os.open(scratch, os.O_RDONLY | os.O_DIRECTORY)
        report = _fork_and_wait(request["entry"], message, built, scratch=scratch, limits=limits)
        if not built.own_processes:  # the child's own were killed with it, and /proc does not show ours
            isolation.kill_children()
        report["copied"] = copy is not None and _copy(folder, copy, limit=limits.output_bytes)
        os.write(writer, json.dumps(report).encode())
        code = 0
    except OSError as error:
        os.write(writer, json.dumps({"error": f"supervisor: {error}"}).encode())
    finally:
        os._exit(code)


def _copy(folder: int, copy: int, *, limit: int) -> bool:
    """Whether there was a result, which is then in `copy`."""
    result = read_regular("result", folder=folder, limit=limit)
    if result is None:
        return False
    with os.fdopen(copy, "wb") as file:
        file.write(result)
    return True


def _fork_and_wait(entry: str, message: bytes, built: Walls, *, scratch: Path, limits: Limits) -> dict[str, Any]:
    deadline = time.monotonic() + limits.wall_seconds
    pid = os.fork()
    if pid == 0:
        _child(entry, message, built, scratch=scratch, limits=limits)
    pidfd = os.pidfd_open(pid)
    timed_out = not select.select([pidfd], [], [], max(0.0, deadline - time.monotonic()))[0]
    if timed_out:
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    _, status, usage = os.wait4(pid, 0)
    os.close(pidfd)
    code = os.waitstatus_to_exitcode(status)
    return {
        "exit_code": code if code >= 0 else None,
        "signal": -code if code < 0 else None,
        "timed_out": timed_out or code == -signal.SIGXCPU,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "max_rss_bytes": usage.ru_maxrss * 1024,
    }


def _child(entry: str, message: bytes, built: Walls, *, scratch: Path, limits: Limits) -> None:
    """Runs in the child: closes what it inherited, locks itself down, does the work, leaves without cleaning up."""
    code = 1
    try:
        os.setsid()
        body, blobs = wire.unpack(message)
        _redirect(scratch)
        interpreting = os.environ.get("TRITON_INTERPRET")
        os.environ.clear()
        os.environ.update(isolation.scrubbed_environment(str(scratch)))
        if interpreting is not None:
            os.environ["TRITON_INTERPRET"] = interpreting
        tempfile.tempdir = str(scratch)  # the warm process has looked for one already
        walls.lock_down(built, scratch=scratch, limits=limits)
        result = importlib.import_module(_ENTRIES[entry]).run(body, blobs, scratch)
        (scratch / "unfinished").write_bytes(result)  # a full folder leaves no half of a result
        (scratch / "unfinished").rename(scratch / "result")
        code = 0
    except BaseException as error:  # noqa: BLE001  the outermost frame of the child: nothing may escape into the fork
        os.write(2, f"{type(error).__name__}: {error}\n".encode(errors="replace")[:2000])
    finally:
        os._exit(code)


def _redirect(scratch: Path) -> None:
    """Standard input from nowhere, output to a file under the size limit, every other descriptor closed."""
    null = os.open(os.devnull, os.O_RDONLY)
    output = os.open(scratch / "output", os.O_WRONLY | os.O_CREAT, 0o600)
    os.dup2(null, 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.closerange(3, resource.getrlimit(resource.RLIMIT_NOFILE)[0])


if __name__ == "__main__":
    main()
