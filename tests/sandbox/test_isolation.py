"""Each layer of isolation stops what it is for: an attack succeeds without the layers named for it, and fails with any
one of them."""

from __future__ import annotations

import dataclasses
import errno
import functools
import os
import shutil
import socket
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sandbox import isolation, landlock, seccomp, walls
from sandbox.zygote import Zygote
from tests.judge_settings import LIMITS, judge_settings
from tests.sandbox.attacks import ATTACKS, Attack, Surroundings, outcome

Try = Callable[..., str | None]


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    with Zygote(("describe", "trace"), isolation_level="best_effort") as zygote:
        yield zygote


@pytest.fixture(scope="module")
def world() -> Iterator[dict[str, Any]]:
    surroundings = Surroundings()
    yield surroundings.world
    surroundings.close()


def needed(*layers: str) -> None:
    if missing := [name for name in layers if name not in isolation.available()]:
        pytest.skip(f"this machine has no {', '.join(missing)}")


def against(attack: Attack) -> tuple[str, ...]:
    return () if attack.against is None else (attack.against,)


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_an_attack_fails_behind_all_layers(zygote: Zygote, world: dict[str, Any], attack: Attack) -> None:
    needed(*against(attack))
    if not set(attack.layers()) & set(isolation.available()):
        pytest.skip(f"this machine has none of {', '.join(attack.layers())}")
    assert outcome(zygote, attack, world, without=()) is not None


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_an_attack_succeeds_without_the_layers_that_stop_it(
    zygote: Zygote, world: dict[str, Any], attack: Attack
) -> None:
    needed(*against(attack))
    if not attack.layers():
        pytest.skip("only root's children need this layer")
    assert outcome(zygote, attack, world, without=attack.layers()) is None


@pytest.mark.parametrize(
    ("attack", "layer"),
    [(attack, layer) for attack in ATTACKS if len(attack.layers()) > 1 for layer in attack.layers()],
    ids=lambda value: value if isinstance(value, str) else value.name,
)  # fmt: skip
def test_each_layer_named_stops_the_attack_alone(
    zygote: Zygote, world: dict[str, Any], attack: Attack, layer: str
) -> None:
    needed(layer, *against(attack))
    others = tuple(name for name in attack.layers() if name != layer)
    assert outcome(zygote, attack, world, without=others) is not None


def test_every_layer_has_an_attack_that_shows_its_use() -> None:
    assert {layer for attack in ATTACKS for layer in attack.stopped_by} == set(isolation.OPTIONAL)


def test_strict_names_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolation, "available", lambda: tuple(n for n in isolation.OPTIONAL if n != "seccomp"))
    with pytest.raises(isolation.IsolationError, match=r"refuses: seccomp$"):
        isolation.layers_for("strict")
    assert "seccomp" not in isolation.layers_for("best_effort") and isolation.layers_for("off") == ()


class _Leaky(Zygote):
    """A sandbox whose layers are silently off."""

    def run(self, *arguments: Any, **named: Any) -> Any:
        return super().run(*arguments, **{**named, "without": self._layers})


@pytest.mark.parametrize("level", ["strict", "best_effort"])
def test_a_layer_that_is_silently_off_is_noticed(level: str) -> None:
    needed("landlock", *(isolation.OPTIONAL if level == "strict" else ()))
    with pytest.raises(isolation.IsolationError, match="does not stop: reading a file outside its folder"):
        _Leaky(("describe",), isolation_level=level)


def test_best_effort_tells_what_nothing_stops(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(isolation, "available", lambda: ())
    with Zygote(("describe",), isolation_level="best_effort") as zygote:
        assert "opening a socket" in zygote.not_stopped
    assert "opening a socket" in caplog.text


def test_nothing_gets_through_the_canaries_here(zygote: Zygote) -> None:
    needed(*isolation.OPTIONAL)
    assert zygote.not_stopped == ()


def test_a_child_with_a_gpu_has_shared_memory_of_its_own() -> None:
    needed("landlock", "mount_namespace")
    mark = Path(f"/dev/shm/kernelloop-test-{os.getpid()}")
    root = Path(tempfile.mkdtemp())
    root.chmod(0o711)
    (root / "scratch").mkdir()
    walled = walls.build(isolation.available(), scratch=root / "scratch", gpu=True)

    def child() -> None:
        walls.lock_down(walled, scratch=root / "scratch", limits=LIMITS)
        mark.write_bytes(b"mine")
        Path(f"/proc/self/task/{threading.get_native_id()}/comm").write_text("named")

    def supervise() -> None:
        walls.enter(walled, scratch=root / "scratch", max_bytes=1 << 20)
        if not isolation._holds(child):
            raise OSError

    try:
        assert isolation._holds(supervise)
        assert not mark.exists()
    finally:
        shutil.rmtree(root)


def _filtered(
    machine: str, *, number: int, audit: int, argument: int = 0, second: int = 0, listen: bool = False
) -> int:
    """What the filter returns, by the rules of classic BPF (linux/bpf_common.h)."""
    lines, at, word = seccomp.program(machine, listen=listen), 0, 0
    read = {0: number, 4: audit, 16: argument, 24: second}
    while True:
        code, if_true, if_false, operand = lines[at]
        at += 1
        if code == 0x06:
            return operand
        if code == 0x20:
            word = read[operand]
            continue
        if code == 0x54:
            word &= operand
            continue
        at += if_true if {0x15: word == operand, 0x35: word >= operand, 0x45: bool(word & operand)}[code] else if_false


@pytest.mark.parametrize("machine", seccomp.MACHINES)
def test_the_filter_denies_what_it_lists_and_nothing_else(machine: str) -> None:
    known, allow, deny = seccomp.MACHINES[machine], 0x7FFF0000, 0x00050000 | errno.EPERM
    for number in range(600):
        expected = deny if number in known.denied.values() else allow
        if number == known.clone3:
            expected = 0x00050000 | errno.ENOSYS
        assert _filtered(machine, number=number, audit=known.audit) == expected, number
    assert _filtered(machine, number=0, audit=0x40000003) == 0x80000000
    assert _filtered(machine, number=known.clone, audit=known.audit, argument=0x10000011) == deny
    assert _filtered(machine, number=known.clone, audit=known.audit, argument=0x003D0F00) == allow
    if machine == "x86_64":
        assert _filtered(machine, number=0x40000000, audit=known.audit) == deny


@pytest.mark.parametrize("machine", seccomp.MACHINES)
def test_a_child_with_a_gpu_may_listen_on_a_unix_socket_and_connect_to_nothing(machine: str) -> None:
    """CUDA's driver listens on one; without it, it does not start."""
    known, allow, deny = seccomp.MACHINES[machine], 0x7FFF0000, 0x00050000 | errno.EPERM
    for family, kind, expected in (
        (socket.AF_UNIX, socket.SOCK_STREAM, allow),
        (socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC, allow),
        (socket.AF_UNIX, socket.SOCK_DGRAM, deny),
        (socket.AF_INET, socket.SOCK_STREAM, deny),
        (socket.AF_NETLINK, socket.SOCK_RAW, deny),
    ):
        asked = functools.partial(
            _filtered, machine, number=known.denied["socket"], audit=known.audit, argument=family, second=kind
        )
        assert asked(listen=True) == expected, (family, kind)
        assert asked() == deny
    others = {*known.denied.values(), {"x86_64": 42, "aarch64": 203}[machine]} - {known.denied["socket"]}
    for number in range(600):
        wanted = 0x00050000 | errno.ENOSYS if number == known.clone3 else deny if number in others else allow
        if number != known.denied["socket"]:
            assert _filtered(machine, number=number, audit=known.audit, listen=True) == wanted, number
    assert _filtered(machine, number=known.clone, audit=known.audit, argument=0x10000011, listen=True) == deny
    assert _filtered(machine, number=known.clone, audit=known.audit, argument=0x003D0F00, listen=True) == allow


_PROBE = "import sys; sys.path.insert(0, sys.argv[1]); from sandbox.isolation import available; print(*available())"


@pytest.mark.parametrize("as_who", ["ordinary user", "root without its capabilities"])
def test_others_than_root_get_the_same_layers(as_who: str) -> None:
    python = "/usr/bin/python3"  # the tests' own may lie where only root may look
    if os.geteuid() != 0 or not shutil.which("setpriv") or not os.path.exists(python):
        pytest.skip("needs root, setpriv and a system Python")
    ids = ["--reuid=1000", "--regid=1000", "--clear-groups"]
    change = ids if as_who == "ordinary user" else ["--bounding-set=-sys_admin", "--inh-caps=-sys_admin"]
    root = Path(isolation.__file__).parents[1]
    asked = subprocess.run(["setpriv", *change, python, "-c", _PROBE, str(root)], capture_output=True, text=True)
    if "Error" in asked.stderr:
        pytest.skip(f"the system's Python does not import the sandbox: {asked.stderr.splitlines()[-1]}")
    # Nobody has handed groups on to the one that the ordinary user is in here, which is root's.
    theirs = set(isolation.OPTIONAL) - ({"control_group"} if as_who == "ordinary user" else set())
    needed(*theirs)
    assert set(asked.stdout.split()) == theirs


def test_no_right_is_asked_of_a_landlock_that_does_not_know_it() -> None:
    assert [landlock.rights(version).bit_length() for version in range(1, 8)] == [13, 14, 15, 15, 16, 16, 16]


def test_nothing_is_kept_where_candidates_could_write_to_it(tmp_path: Path) -> None:
    kept = judge_settings(cache_dir=str(tmp_path))
    expected = tmp_path if "landlock" in isolation.available() else None
    assert isolation.kept_folder(kept) == expected
    assert isolation.kept_folder(dataclasses.replace(kept, isolation="off")) is None
    assert isolation.kept_folder(judge_settings(cache_dir=None)) is None


def test_a_fork_that_is_refused_for_an_instant_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    refusals = iter([RuntimeError("os.fork is unsafe while a lock changes hands")] * 3)
    fork = os.fork

    def refused_thrice() -> int:
        if (refusal := next(refusals, None)) is not None:
            raise refusal
        return fork()

    monkeypatch.setattr(os, "fork", refused_thrice)
    assert isolation._holds(lambda: None)
    assert next(refusals, None) is None
