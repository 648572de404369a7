"""What `doctor` concludes from a machine: what is missing and what that disables."""

from __future__ import annotations

from dataclasses import replace

from rich.console import Console

from agent.doctor import Finding, State, assembler, examine, table
from sandbox.environment import Gpu, Value

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


H100 = tuple(
    Gpu(index=n, uuid=f"GPU-{n}", model="NVIDIA H100 80GB HBM3", memory_mib=81559, sliced=False) for n in range(2)
)


def by_name(environment: dict[str, Value], **isolation: bool) -> dict[str, Finding]:
    return {finding.name: finding for finding in examine(environment, isolation=isolation, gpus=(), visible=())}


def with_gpus(*visible: Gpu, cores: int, gpus: tuple[Gpu, ...] = H100) -> dict[str, Finding]:
    found = examine(SERVER | {"cores": cores}, isolation={}, gpus=gpus, visible=visible)
    return {finding.name: finding for finding in found}


def test_each_gpu_is_named_by_uuid_and_a_hidden_one_is_told() -> None:
    found = with_gpus(H100[1], cores=32)
    assert "GPU-1" in found["GPU 1"].found and found["GPU 1"].state is State.OK
    assert found["GPU 0"].state is State.LIMITED and "hides it" in (found["GPU 0"].consequence or "")
    sliced = replace(H100[0], sliced=True)
    assert "MIG" in (with_gpus(sliced, cores=32, gpus=(sliced,))["GPU 0"].consequence or "")


def test_the_crew_is_worked_out_from_cores_and_gpus() -> None:
    roomy = with_gpus(*H100, cores=32)["crew"]
    assert roomy.found.startswith("2 judges and 30 tracers; with vLLM 1 judge and 1 engine, placement: own")
    assert roomy.state is State.OK
    tight = with_gpus(*H100, cores=8)["crew"]
    assert tight.state is State.LIMITED and "on 20 cores in all" in (tight.consequence or "")
    assert "placement: shared" in with_gpus(H100[0], cores=16)["crew"].found
    assert "crew" not in with_gpus(cores=16)


def test_judges_on_unlike_gpus_are_warned_of() -> None:
    unlike = (H100[0], replace(H100[1], model="NVIDIA H200"))
    found = with_gpus(*unlike, cores=32, gpus=unlike)["crew"]
    assert found.state is State.LIMITED and "do not compare" in (found.consequence or "")


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


def test_a_narrow_screen_splits_no_word() -> None:
    findings = [*by_name(LAPTOP, file_descriptors=True, network_namespace=False).values()]
    console = Console(width=40)
    with console.capture() as captured:
        console.print(table(findings))
    words = captured.get().split()
    assert max(map(len, captured.get().splitlines())) <= 40
    for item in findings:
        told = ["what", "that", "disables:", *item.consequence.split()] if item.consequence else []
        told = [item.state, *f"{item.name}: {item.found}".split(), *told]
        assert any(words[start : start + len(told)] == told for start in range(len(words))), told


def test_a_long_path_is_shown_to_its_end() -> None:
    path = "/" + "folder/" * 20 + "tokenizer.json"
    finding = Finding(name="tokeniser", found=f"{path}: is missing", state=State.MISSING, consequence="take it")
    console = Console(width=60)
    with console.capture() as captured:
        console.print(table([finding]))
    assert "folder/tokenizer.json:" in "".join(captured.get().split())
