"""The process in which a candidate's module is really called, on a GPU: untrusted from the moment that it loads one.

Starts as a light supervisor, which forks the caller into its namespaces and ends it at its deadline. The caller imports
torch, shuts the walls behind itself, opens the GPU, and only then is told the source. Times nothing. Run as
`python -m sandbox.python_caller`.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from sandbox import isolation, walls
from sandbox.gpu_workers import KEPT_VARIABLES
from sandbox.settings import Limits
from sandbox.walls import Walls
from sandbox.worker_process import read_message, write_message

_FILE_BYTES = 256 << 20
_NUM_PROCESSES = 512  # threads count too: CUDA's, torch's, the compiler's
_CORES = 8  # how many CPU seconds a second of its deadline may cost


def main() -> None:
    message = read_message(sys.stdin.buffer)
    if message is None:
        return
    request = message[0]
    isolation.become_subreaper()
    home = Path.cwd()
    home.chmod(0o711)
    scratch = home / "scratch"
    scratch.mkdir(mode=0o700)
    seconds = float(request["seconds"])
    limits = Limits(
        wall_seconds=seconds, cpu_seconds=int(seconds * _CORES), memory_bytes=16 << 30, output_bytes=0,
        file_bytes=_FILE_BYTES, num_processes=_NUM_PROCESSES,
    )  # fmt: skip
    try:
        # CUDA names its threads below /proc, where without a /proc of its own a PID namespace has other numbers.
        layers = tuple(request["layers"])
        if request["gpu"] and "mount_namespace" not in layers:
            layers = tuple(name for name in layers if name != "pid_namespace")
        built = walls.build(layers, scratch=scratch, gpu=request["gpu"])
        walls.enter(built, scratch=scratch, max_bytes=2 * _FILE_BYTES)
    except OSError as error:
        _answer(sys.stdout.buffer, {"error": f"supervisor: {error}"})
        return
    pid = os.fork()
    if pid == 0:
        _caller(built, scratch=scratch, limits=limits)
    os.close(0)
    os.close(1)
    pidfd = os.pidfd_open(pid)
    if not select.select([pidfd], [], [], seconds)[0]:
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if not built.own_processes:
        isolation.kill_children()
    sys.exit(1 if code else 0)


def _answer(stream: BinaryIO, body: dict[str, Any]) -> None:
    write_message(stream, {"json": json.dumps(body)})


def _caller(built: Walls, *, scratch: Path, limits: Limits) -> None:
    """Runs in the fork, and leaves without cleaning up."""
    code = 1
    try:
        requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.dup2(2, 1)  # what libraries print must not look like an answer
        os.environ.update({**isolation.scrubbed_environment(str(scratch)), **_kept_environment()})
        try:
            conditions = _open(built, scratch=scratch, limits=limits)
        except (OSError, RuntimeError, ImportError) as error:
            _answer(answers, {"error": f"{type(error).__name__}: {error}"[:800]})
        else:
            _answer(answers, {"conditions": conditions})
            _serve(requests, answers, scratch, gpu=built.gpu)
            code = 0
    except BaseException as error:  # noqa: BLE001  the outermost frame of the fork
        os.write(2, f"{type(error).__name__}: {error}\n".encode(errors="replace")[:2000])
    finally:
        os._exit(code)


def _kept_environment() -> dict[str, str]:
    """What the judge chose for this process: its GPU, and where compilers and libraries are."""
    names = ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", *KEPT_VARIABLES)
    return {name: os.environ[name] for name in names if name in os.environ}


def _open(built: Walls, *, scratch: Path, limits: Limits) -> dict[str, str]:
    """Imports torch, locks this process down, opens its device. Raises OSError, RuntimeError or ImportError."""
    import torch
    import triton

    if len(threads := os.listdir("/proc/self/task")) != 1:
        # Landlock binds the calling thread and what it starts, so another one would be free of it.
        raise RuntimeError(f"{len(threads)} threads before the walls stand")
    walls.lock_down(built, scratch=scratch, limits=limits)
    if built.gpu:
        # Landlock's rule is for this folder's inode, which /proc may make anew once nobody holds it: never closed.
        os.open("/proc/self/task", os.O_PATH)
    conditions = {"torch": torch.__version__, "triton": triton.__version__, "isolation": ",".join(built.layers)}
    if built.gpu:
        if float(torch.ones(8, device="cuda").sum()) != 8.0:
            raise RuntimeError("the GPU does not compute")
        conditions["gpu"] = torch.cuda.get_device_name()
    return conditions


def _serve(requests: BinaryIO, answers: BinaryIO, scratch: Path, *, gpu: bool) -> None:
    """Loads a module, then calls it as often as it is told to."""
    call: Callable[[int], None] | None = None
    while (message := read_message(requests)) is not None:
        body = message[0]
        try:
            if body["do"] == "load":
                call = _loaded(body, scratch, gpu=gpu)
            elif call is not None:
                call(body["num_calls"])
            write_message(answers, {"done": True})
        except Exception as error:  # noqa: BLE001  the candidate may raise anything; its words go back as they are
            write_message(answers, {"done": False, "error": f"{type(error).__name__}: {error}"[:800]})


def _loaded(body: dict[str, Any], scratch: Path, *, gpu: bool) -> Callable[[int], None]:
    """A function that makes n calls on the problem's inputs and waits for the device."""
    import torch

    from sandbox.describe import construct, load_module

    device = "cuda" if gpu else "cpu"
    problem = load_module(body["problem"], name="problem", folder=scratch)
    torch.manual_seed(body["seed"])
    init_inputs = problem.get_init_inputs()
    inputs = _moved(problem.get_inputs(), device)
    if body["source"] is None:
        cls = problem.Model
    else:
        cls = load_module(body["source"], name="candidate", folder=scratch).ModelNew
    torch.manual_seed(body["seed"])
    model = construct(cls, init_inputs).to(device)

    def call(num_calls: int) -> None:
        with torch.no_grad():
            for _ in range(num_calls):
                model(*inputs)
        if gpu:
            torch.cuda.synchronize()

    return call


def _moved(tree: Any, device: str) -> Any:
    import torch

    if isinstance(tree, torch.Tensor):
        return tree.to(device)
    if isinstance(tree, list | tuple):
        return type(tree)(_moved(item, device) for item in tree)
    if isinstance(tree, dict):
        return {name: _moved(item, device) for name, item in tree.items()}
    return tree


if __name__ == "__main__":
    main()
