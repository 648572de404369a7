"""A control group bounds what a child and all that it starts take together, and leaves nothing behind."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox import control_group, isolation
from sandbox.control_group import ControlGroup, Home, Refusals
from sandbox.tracer import Tracer
from sandbox.types import Candidate, Operator, Problem, Status
from sandbox.zygote import Zygote
from tests.judge_settings import LIMITS, judge_settings

SMALL = dataclasses.replace(LIMITS, memory_bytes=256 << 20, file_bytes=1 << 20)
HOG = """import os, time
        for _ in range(12):
            if os.fork() == 0:
                held = b"x" * (64 << 20)
                time.sleep(20)
                os._exit(0)
        os.wait()"""


def needed() -> None:
    if "control_group" not in isolation.available():
        pytest.skip("no control group can be made here")


@pytest.fixture
def group() -> Iterator[ControlGroup]:
    needed()
    group = control_group.make()
    yield group
    assert group.remove()


def held_by(folder: str) -> str:
    """The numbers of the processes in it; one that was killed takes a while to leave."""
    try:
        return (Path(folder) / "cgroup.procs").read_text()
    except OSError:
        return ""


def gone(folders: tuple[str, ...]) -> bool:
    return not any(map(os.path.exists, folders))


def inside(group: ControlGroup, deed: str) -> subprocess.Popen[str]:
    """A process in the group that says when it is there, then does something."""
    program = (
        "import os, sys, time\n"
        "from sandbox import control_group\n"
        f"control_group.enter({group.folders!r})\n"
        f"print('in', flush=True)\n{deed}\n"
    )
    started = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert started.stdout is not None
    with started.stdout as told:
        assert told.readline() == "in\n"
    return started


def test_a_candidate_whose_processes_take_too_much_together_is_told_so(sources: dict[str, str]) -> None:
    needed()
    problem = Problem(id="problem", source=sources["relu"], origin="test")
    hog = sources["relu_answer"].replace("assert x.is_cuda", HOG)
    with Tracer(judge_settings(trace_limits=SMALL)) as tracer:
        traced = tracer.trace(problem, Candidate(problem_id="problem", source=hog, operator=Operator.DRAFT))
        assert traced.status is Status.OUT_OF_MEMORY and traced.failure is not None, traced.failure
        assert "more memory than its limit, together with those it started" in traced.failure.message
        warm = tracer._zygote
        honest = Candidate(problem_id="problem", source=sources["relu_answer"], operator=Operator.DRAFT)
        assert tracer.trace(problem, honest).plan is not None
        assert tracer._zygote is warm


def test_what_one_process_may_have_is_not_refused_to_it(group: ControlGroup) -> None:
    """All of its memory limit, a full scratch folder, and a copy of all that its parent holds."""
    parts = dataclasses.replace(SMALL, memory_bytes=64 << 20, file_bytes=8 << 20)
    group.limit(parts, inherited_bytes=32 << 20, num_others=0)
    held = inside(group, "held = b'x' * (112 << 20)")
    assert held.wait() == 0
    assert group.refused() == Refusals(num_at_limit=0, num_killed=0)
    too_much = inside(group, "held = b'x' * (112 + 64 << 20)")
    assert too_much.wait() == -signal.SIGKILL
    assert group.refused().killed_since(Refusals(num_at_limit=0, num_killed=0))


def test_what_is_still_inside_ends_with_the_group(group: ControlGroup) -> None:
    fled = inside(group, "os.setsid(); time.sleep(60)")
    assert group.num_tasks() == 1
    assert group.remove() and gone(group.folders)
    assert fled.wait() == -signal.SIGKILL


def test_without_a_home_for_groups_everything_else_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container that shows its control groups read-only."""
    others = tuple(name for name in isolation.available() if name != "control_group")
    monkeypatch.setattr(control_group, "home", lambda **_: None)
    assert isolation.available.__wrapped__() == others
    monkeypatch.setattr(isolation, "available", isolation.available.__wrapped__)
    with Zygote(("describe",), isolation_level="best_effort") as zygote:
        assert zygote._group is None
    with pytest.raises(isolation.IsolationError, match="control_group"):
        Zygote(("describe",), isolation_level="strict")


@pytest.mark.parametrize("killed", [False, True])
def test_a_zygote_leaves_no_group(killed: bool) -> None:
    needed()
    zygote = Zygote(("describe",), isolation_level="best_effort")
    try:
        assert zygote._group is not None and not gone(zygote._group.folders)
        if killed:
            os.killpg(zygote.pid, signal.SIGKILL)
    finally:
        zygote.close()
    assert gone(zygote._group.folders)


@pytest.mark.parametrize("both", [False, True])
def test_the_group_of_a_killed_owner_goes(both: bool) -> None:
    """With its warm process, or where that was killed too, when the next group is made."""
    needed()
    program = (
        "import time\n"
        "from sandbox.zygote import Zygote\n"
        "zygote = Zygote(('describe',), isolation_level='best_effort')\n"
        "print(zygote.pid, *zygote._group.folders, flush=True)\n"
        "time.sleep(60)\n"
    )
    owner = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    pid, *folders = owner.stdout.readline().split()
    if both:
        os.kill(int(pid), signal.SIGKILL)
    owner.kill()
    owner.communicate()
    if both:
        while any(held_by(folder) for folder in folders) and not gone(tuple(folders)):
            time.sleep(0.01)
        assert control_group.make().remove()
    deadline = time.monotonic() + 60
    while not gone(tuple(folders)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert gone(tuple(folders))


@pytest.mark.parametrize(
    ("at_limit", "killed", "told"), [(4, 1, True), (3, 1, False), (4, 0, False)],
    ids=["ended for the limit", "ended for the machine's want", "refused and lived"],
)  # fmt: skip
def test_only_the_groups_own_limit_counts(at_limit: int, killed: int, told: bool) -> None:
    before = Refusals(num_at_limit=3, num_killed=0)
    assert Refusals(num_at_limit=at_limit, num_killed=killed).killed_since(before) is told


def written(folder: Path, **files: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)
    return folder


def unified(folder: Path, *, hands_on: str, limit: str = "max") -> Path:
    """A group of version 2 that is not the root's."""
    return written(
        folder, cgroup__controllers="cpu memory pids", cgroup__subtree_control=hands_on, cgroup__type="domain",
        memory__max=limit,
    )  # fmt: skip


def mounted(point: Path, *, root: str = "/", kind: str = "cgroup2", options: str = "rw") -> str:
    return f"30 23 0:26 {root} {point} rw,nosuid shared:9 - {kind} {kind} {options}\n"


def test_the_root_of_version_2_is_a_home(tmp_path: Path) -> None:
    top = written(tmp_path, cgroup__controllers="cpu memory pids", cgroup__subtree_control="")
    assert control_group.home(mounts=mounted(top), own="0::/") == Home(folders=(top,), own=(top,), unified=True)


def test_a_group_is_made_beside_ours_where_that_is_handed_on(tmp_path: Path) -> None:
    unified(tmp_path, hands_on="memory")
    unified(tmp_path / "ours", hands_on="cpu memory pids")
    leaf = unified(tmp_path / "ours" / "leaf", hands_on="")
    found = control_group.home(mounts=mounted(tmp_path), own="0::/ours/leaf")
    assert found == Home(folders=(tmp_path / "ours",), own=(leaf,), unified=True)


def test_no_group_is_made_above_our_own_memory_limit(tmp_path: Path) -> None:
    unified(tmp_path, hands_on="memory pids")
    unified(tmp_path / "ours", hands_on="", limit="1073741824")
    assert control_group.home(mounts=mounted(tmp_path), own="0::/ours") is None


def test_a_container_that_hands_nothing_on_has_no_home(tmp_path: Path) -> None:
    unified(tmp_path, hands_on="")
    assert control_group.home(mounts=mounted(tmp_path), own="0::/") is None
    assert control_group.home(mounts="", own="0::/") is None


def test_version_1_has_a_home_in_each_of_two_hierarchies(tmp_path: Path) -> None:
    memory = written(tmp_path / "memory" / "here", memory__use_hierarchy="1")
    pids = written(tmp_path / "pids")
    mounts = mounted(tmp_path / "memory", root="/box", kind="cgroup", options="rw,memory") + mounted(
        tmp_path / "pids", kind="cgroup", options="rw,pids"
    )
    own = "9:name=systemd:/\n8:pids:/\n4:memory:/box/here\n0::/"
    assert control_group.home(mounts=mounts, own=own) == Home(folders=(memory, pids), own=(memory, pids), unified=False)
    assert control_group.home(mounts=mounts, own=own.replace("/box/here", "/elsewhere")) is None


def test_a_group_of_version_2_is_bounded_by_its_files(tmp_path: Path) -> None:
    top = written(tmp_path, cgroup__controllers="cpu memory pids", cgroup__subtree_control="")
    group = ControlGroup(Home(folders=(top,), own=(top,), unified=True))
    assert (top / "cgroup.subtree_control").read_text() == "+memory +pids"
    (folder,) = map(Path, group.folders)
    group.limit(dataclasses.replace(SMALL, num_processes=7), inherited_bytes=1, num_others=2)
    assert int((folder / "memory.max").read_text()) >= (256 << 20) + (2 << 20) + 1
    assert (folder / "pids.max").read_text() == "9"
    group.unlimit()
    assert (folder / "memory.max").read_text() == (folder / "pids.max").read_text() == "max"
    written(folder, memory__events="low 0\nhigh 0\nmax 31\noom 2\noom_kill 1\noom_group_kill 0\n")
    assert group.refused() == Refusals(num_at_limit=2, num_killed=1)
