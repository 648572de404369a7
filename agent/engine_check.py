"""Whether the interpreter that engines run under has what an engine needs: vLLM, and this process's Ray and Python.

Starts that interpreter for a moment and imports neither: it is asked for versions alone.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib.metadata import version
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from agent.doctor import Finding, State, parts
from agent.engine_config import EngineConfig

VLLM_TESTED = ("0.24", "0.32")  # what pyproject.toml asks for
VLLM_WANTED = "'vllm>=0.24,<0.33'"
ANSWER_SECONDS = 60.0
MAX_CHARACTERS = 10_000
# A build for a CPU is installed under another name than it is imported by.
ASK = """
import importlib.util, json, platform
from importlib import metadata
def found(name):
    if importlib.util.find_spec(name) is None:
        return None
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        pass
    names = metadata.packages_distributions().get(name, [])
    return metadata.version(names[0]) if names else "of unknown version"
print(json.dumps({"python": platform.python_version(), "vllm": found("vllm"), "ray": found("ray")}))
"""

Version = Annotated[str, Field(max_length=100)]


class InterpreterError(RuntimeError):
    """It is no Python that answers. One line."""


class Installed(BaseModel):
    """What an interpreter says of itself; None for what it has not."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    python: Version
    vllm: Version | None
    ray: Version | None


def engine_findings(engine: EngineConfig, *, on_cluster: bool) -> list[Finding]:
    """Of engines that run here, or with `on_cluster` on nodes that this one need not be like."""
    python = engine.python or sys.executable
    if on_cluster:
        told = "looked at on this machine alone: each node of ray.address needs the same"
        there = Finding(name="engine's nodes", found=python, state=State.LIMITED, consequence=told)
        return [there] if not os.access(python, os.X_OK) else [*looked_at(engine, python=python), there]
    return looked_at(engine, python=python)


def looked_at(engine: EngineConfig, *, python: str) -> list[Finding]:
    try:
        installed = ask(python)
    except InterpreterError as error:
        mended = "engine.python: the interpreter of an environment with vLLM and this one's Ray and Python"
        return [Finding(name="engine", found=str(error), state=State.MISSING, consequence=mended)]
    findings = [vllm_of(installed, engine=engine, python=python)]
    return findings if engine.python is None else [*findings, ray_of(installed, python=python), python_of(installed)]


def ask(python: str) -> Installed:
    """Raises InterpreterError."""
    try:
        # From a folder without packages of its own: -c looks there first.
        answer = subprocess.run([python, "-c", ASK], capture_output=True, timeout=ANSWER_SECONDS, cwd="/", check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InterpreterError(f"{python}: does not start: {' '.join(str(error).split())}") from error
    if answer.returncode != 0:
        last = (answer.stderr.decode(errors="replace").strip().splitlines() or ["it says nothing"])[-1]
        raise InterpreterError(f"{python}: is no Python interpreter that works: {last[:200]}")
    try:
        return Installed.model_validate_json(answer.stdout[:MAX_CHARACTERS])
    except ValidationError as error:
        raise InterpreterError(f"{python}: answers not as a Python interpreter does") from error


def vllm_of(installed: Installed, *, engine: EngineConfig, python: str) -> Finding:
    where = "" if engine.python is None else f" in {python}"
    if installed.vllm is None:
        mended = "pip install 'kernelloop[vllm]', or engine.python: the interpreter of an environment that has it"
        if engine.python is not None:
            mended = f"{python} -m pip install {VLLM_WANTED}, or engine.python: another interpreter"
        return Finding(name="engine", found=f"vllm is not installed{where}", state=State.MISSING, consequence=mended)
    low, high = VLLM_TESTED
    tested = parts(low) <= parts(installed.vllm)[:2] <= parts(high)
    return Finding(
        name="engine",
        found=f"vllm {installed.vllm}{where}",
        state=State.OK if tested else State.LIMITED,
        consequence=None if tested else f"not tested here: {low} to {high} are",
    )


def ray_of(installed: Installed, *, python: str) -> Finding:
    """An engine's process joins this one's Ray, so it is the same to the last number."""
    ours = version("ray")
    if installed.ray == ours:
        return Finding(name="engine's Ray", found=ours, state=State.OK)
    told = "not installed" if installed.ray is None else f"{installed.ray}, and {ours} here"
    mended = f"{python} -m pip install ray=={ours}"
    return Finding(name="engine's Ray", found=told, state=State.MISSING, consequence=mended)


def python_of(installed: Installed) -> Finding:
    """The actor's code goes there by value: another minor version cannot read it, of another patch Ray complains."""
    ours, theirs = platform.python_version(), installed.python
    if theirs == ours:
        return Finding(name="engine's Python", found=theirs, state=State.OK)
    unlike = parts(theirs)[:2] != parts(ours)[:2]
    return Finding(
        name="engine's Python",
        found=f"{theirs}, and {ours} here",
        state=State.MISSING if unlike else State.LIMITED,
        consequence=f"engine.python: an environment of Python {ours}",
    )
