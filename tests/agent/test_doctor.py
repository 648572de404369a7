"""What `doctor` concludes from a machine: what is missing and what that disables."""

from __future__ import annotations

from rich.console import Console

from agent.doctor import Finding, State, assembler, examine, table
from sandbox.environment import Value

LAPTOP: dict[str, Value] = {
    "torch": "2.13.0+cpu",
    "triton": "3.7.1",
    "ray": None,
    "gpu": None,
    "num_gpus": 0,
    "driver": None,
    "cores": 8,
    "memory_bytes": 4 << 30,
}
SERVER = LAPTOP | {"gpu": "NVIDIA H200", "num_gpus": 2, "driver": "570.86.15", "memory_bytes": 256 << 30}


def by_name(environment: dict[str, Value], **isolation: bool) -> dict[str, Finding]:
    return {finding.name: finding for finding in examine(environment, isolation=isolation)}


def test_without_a_gpu_timing_is_disabled_and_replay_parts_are_not_asked_for() -> None:
    found = by_name(LAPTOP)
    assert "timing" in (found["GPU"].consequence or "")
    assert "cuda-bindings" not in found


def test_a_gpu_without_the_bindings_cannot_replay() -> None:
    assert by_name(SERVER)["cuda-bindings"].state is State.MISSING
    assert by_name(SERVER | {"cuda-bindings": "12.9.1"})["cuda-bindings"].state is State.OK


def test_missing_and_untested_packages_say_what_they_cost() -> None:
    found = by_name(LAPTOP | {"torch": "2.14.0"})
    assert found["ray"].state is State.MISSING and "serial works" in (found["ray"].consequence or "")
    assert found["torch"].state is State.LIMITED
    assert found["triton"].state is State.OK


def test_memory_is_held_against_the_cores() -> None:
    assert by_name(LAPTOP)["memory"].state is State.LIMITED
    assert by_name(SERVER)["memory"].state is State.OK


def test_a_missing_layer_rules_out_strict_isolation_only() -> None:
    found = by_name(LAPTOP, network_namespace=False, rlimits=True)
    assert found["network namespace"].state is State.LIMITED
    assert "strict" in (found["network namespace"].consequence or "")
    assert found["rlimits"].consequence is None


def test_no_assembler_means_no_verdict() -> None:
    assert assembler(None).state is State.MISSING


def test_a_long_path_is_shown_to_its_end() -> None:
    path = "/" + "folder/" * 20 + "tokenizer.json"
    finding = Finding(name="tokeniser", found=f"{path}: is missing", state=State.MISSING, consequence="take it")
    console = Console(width=60)
    with console.capture() as captured:
        console.print(table([finding]))
    assert "folder/tokenizer.json:" in "".join(captured.get().split())
