"""A sandbox outlives its candidates: whatever one leaves behind, the next one is traced as if it had been the first."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sandbox.isolation import available
from sandbox.judge import InterpretJudge
from sandbox.scratch import read_regular, remove_tree
from sandbox.settings import JudgeSettings
from sandbox.tracer import Traced, Tracer
from sandbox.types import Candidate, Operator, Problem, Status

Trace = Callable[[str, str], Traced]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder that is gone at the end whatever the test made of it; pytest's own clean-up recurses."""
    made = tmp_path / "scratch"
    made.mkdir()
    yield made
    os.system(f"chmod -R u+rwx {made} 2>/dev/null; rm -rf {made}")


def nest(depth: int) -> None:
    for _ in range(depth):
        os.mkdir("d")
        os.chdir("d")
        Path("file").touch()


def test_a_deep_tree_is_removed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    nest(3000)
    monkeypatch.undo()
    assert remove_tree(folder, seconds=60) and not folder.exists()


def test_links_pipes_and_closed_folders_are_removed_and_links_not_followed(folder: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").touch()
    inner = folder / "a" / "b"
    inner.mkdir(parents=True)
    (inner / "file").touch()
    (folder / "link").symlink_to(kept)
    (inner / "link").symlink_to(kept)
    os.mkfifo(inner / "pipe")
    (folder / "closed" / "inner").mkdir(parents=True)
    for closed in (folder / "closed" / "inner", folder / "closed", inner, folder):
        closed.chmod(0)
    assert remove_tree(folder, seconds=60) and not folder.exists()
    assert (kept / "file").exists()


def test_a_link_in_place_of_the_folder_is_removed_alone(folder: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(folder)
    assert remove_tree(link, seconds=60) and not link.is_symlink() and folder.exists()


def test_removal_ends_in_time_and_never_raises(folder: Path) -> None:
    for name in range(3000):
        (folder / str(name)).touch()
    start = time.monotonic()
    assert remove_tree(folder, seconds=0.0) is False
    assert time.monotonic() - start < 30.0
    assert remove_tree(folder / "absent", seconds=0.0) is True


def test_only_a_regular_file_within_the_limit_is_read(folder: Path) -> None:
    (folder / "file").write_bytes(b"abc")
    (folder / "folder").mkdir()
    (folder / "link").symlink_to(folder / "file")
    os.mkfifo(folder / "pipe")
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        found = {
            name: read_regular(name, folder=descriptor, limit=3)
            for name in ("file", "folder", "link", "pipe", "absent")
        }
        assert found == {"file": b"abc", "folder": None, "link": None, "pipe": None, "absent": None}
        assert read_regular("file", folder=descriptor, limit=2) is None
    finally:
        os.close(descriptor)


WITHIN = {
    "deep folders": "for _ in range(3000): os.mkdir('d'); os.chdir('d')",
    "a folder in place of the result": "os.mkdir('result')",
    "a pipe in place of the result": "os.mkfifo('result')",
    "a link in place of the result": "os.symlink('/etc/hostname', 'result')",
}
OUTSIDE = {
    "no folder any more": "os.rename(os.getcwd(), os.getcwd() + 'x'); os.symlink('/etc', os.getcwd()[:-1])",
    "the next folders": "[os.mkdir(f'../call-{i}') for i in range(50)]",
    "a module next to the warm process": "open('../zygote/planted.py', 'w').close()",
    "a pipe in place of the warm process's words": "os.unlink('../zygote/stderr'); os.mkfifo('../zygote/stderr')",
}
DEEDS = {**WITHIN, **OUTSIDE}


@pytest.fixture(scope="module")
def open_tracer(settings: JudgeSettings) -> Iterator[Tracer]:
    """One without walls, as on a machine that has none: what is left behind must hurt nobody there either."""
    with Tracer(dataclasses.replace(settings, isolation="off")) as tracer:
        yield tracer


@pytest.mark.parametrize("deed", DEEDS.values(), ids=DEEDS.keys())
def test_what_one_candidate_leaves_hurts_no_other(open_tracer: Tracer, sources: dict[str, str], deed: str) -> None:
    problem = Problem(id="problem", source=sources["relu"], origin="test")
    traced = open_tracer.trace(problem, _candidate(_doing(deed, sources)))
    assert traced.status is Status.TRACE_ERROR and traced.failure is not None
    assert traced.failure.error_class == "ProcessEnded", traced.failure
    warm = open_tracer._zygote
    assert warm is not None
    honest = _candidate(sources["relu_answer"] + f"\n# {len(deed)}")
    assert open_tracer.trace(problem, honest).plan is not None
    assert open_tracer._zygote is warm


@pytest.mark.parametrize("deed", WITHIN.values(), ids=WITHIN.keys())
def test_behind_walls_a_candidate_may_do_so_in_its_own_folder(trace: Trace, sources: dict[str, str], deed: str) -> None:
    traced = trace(sources["relu"], _doing(deed, sources))
    assert traced.failure is not None and traced.failure.error_class == "ProcessEnded", traced.failure


@pytest.mark.parametrize("deed", OUTSIDE.values(), ids=OUTSIDE.keys())
def test_behind_walls_nothing_outside_its_folder_can_be_changed(
    trace: Trace, sources: dict[str, str], deed: str
) -> None:
    if "landlock" not in available():
        pytest.skip("this machine has no Landlock")
    traced = trace(sources["relu"], _doing(deed, sources))
    assert traced.failure is not None
    assert traced.failure.error_class in ("PermissionError", "FileNotFoundError", "OSError"), traced.failure


def _candidate(source: str) -> Candidate:
    return Candidate(problem_id="problem", source=source, operator=Operator.DRAFT)


def _doing(deed: str, sources: dict[str, str]) -> str:
    return sources["relu_answer"].replace("assert x.is_cuda", f"import os\n        {deed}\n        os._exit(0)")


def test_nothing_is_imported_from_the_folder_of_the_warm_process(trace: Trace, sources: dict[str, str]) -> None:
    plant = "import os\n        open('../zygote/planted.py', 'w').close()\n        os._exit(0)"
    trace(sources["relu"], sources["relu_answer"].replace("assert x.is_cuda", plant))
    traced = trace(sources["relu"], sources["relu_answer"].replace("assert x.is_cuda", "import planted"))
    assert traced.failure is not None and "planted" in traced.failure.message


def test_what_a_candidate_says_can_be_encoded(trace: Trace, sources: dict[str, str]) -> None:
    traced = trace(sources["relu"], sources["relu_answer"].replace("assert x.is_cuda", 'raise ValueError("a\\ud800b")'))
    assert traced.failure is not None and traced.failure.message == "a?b"


class _Broken:
    """A warm process that fails in a way nobody foresaw."""

    closed = False

    def run(self, *_: Any, **__: Any) -> Any:
        raise RecursionError

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize("kind", [Tracer, InterpretJudge])
def test_a_warm_process_is_dropped_after_any_error(kind: Any, settings: JudgeSettings) -> None:
    owner, broken = kind(settings), _Broken()
    owner._zygote = broken
    with pytest.raises(RecursionError):
        owner._run(*(("trace", b"", settings.trace_limits) if kind is Tracer else (b"",)))
    assert broken.closed and owner._zygote is None


def test_a_killed_owner_leaves_no_folder_behind() -> None:
    """The warm process cleans up after an owner that could not."""
    program = (
        "import os, sys, time\n"
        "from sandbox.zygote import Zygote\n"
        "zygote = Zygote(('describe',), isolation_level='best_effort')\n"
        "print(zygote._root, flush=True)\n"
        "time.sleep(60)\n"
    )
    owner = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    try:
        assert owner.stdout is not None
        root = Path(owner.stdout.readline().strip())
        assert root.is_dir()
    finally:
        owner.kill()
        owner.wait()
        if owner.stdout is not None:
            owner.stdout.close()
    deadline = time.monotonic() + 120
    while root.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not root.exists()
