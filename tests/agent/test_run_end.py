"""How a run ends or is left, through the command line: what is told, in which order, and what is left to go on with."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import threading
from pathlib import Path

import pytest

import agent
from agent import cli, entry, run_command, run_end
from agent.ledger import LedgerError
from agent.ledger_file import LedgerNotWritable
from agent.pool import Pool
from agent.progress import JsonDisplay
from agent.run_folder import RunFolder, RunFolderError, replace_file
from tests.agent.command_folder import command_folder, json_lines
from tests.agent.word_pool import PROBLEM, WordPool


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return command_folder(tmp_path, monkeypatch)


def interrupted(*_: object, **__: object) -> Pool:
    raise KeyboardInterrupt


def to_go_on(folder: Path, *, reason: str = "interrupted") -> str:
    return f"kernelloop: {reason}; to go on: kernelloop resume {folder / 'out'}"


def test_an_interrupt_while_the_machine_is_looked_at_leaves_no_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sandbox.environment.record", interrupted)
    assert cli.main(["run", "config.yaml"]) == 1
    assert not (folder / "out").exists()


def test_an_interrupt_once_there_is_a_folder_says_how_to_go_on(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(RunFolder, "write_environment", interrupted)
        assert cli.main(["run", "config.yaml"]) == 1
    assert capsys.readouterr().err.splitlines() == [to_go_on(folder)]
    assert cli.main(["resume", "out"]) == 0
    assert "2 of 2 problems solved" in capsys.readouterr().out
    for name in ("environment.json", "report.md", "evidence/easy/manifest.json"):
        assert (folder / "out" / name).is_file()


def test_a_record_that_cannot_be_read_is_named_before_anything_is_done(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli.main(["run", "config.yaml"]) == 0
    (folder / "out" / "environment.json").write_text("{")
    monkeypatch.setattr(run_command, "open_pool", None)
    for command in ("resume", "report"):
        capsys.readouterr()
        assert cli.main([command, "out"]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert f"{folder / 'out' / 'environment.json'}: cannot be read: Expecting" in line


@pytest.mark.parametrize("command", [["report", "other"], ["export", "other", "--csv"]])
def test_a_run_that_had_not_begun_has_nothing_to_report(
    folder: Path, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    (folder / "other").mkdir()
    shutil.copy("config.yaml", "other")
    assert cli.main(command) == 2
    assert capsys.readouterr().err == f"kernelloop: {folder / 'other'}: has no ledger.sqlite: the run had not begun\n"


def test_what_was_interrupted_while_it_started_is_told_under_the_display(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Leaving(JsonDisplay):
        def __exit__(self, *_: object) -> None:
            print("the display is left", file=sys.stderr)

    monkeypatch.setattr(run_command, "open_display", lambda as_json: Leaving(stream=sys.stdout))
    monkeypatch.setattr(run_command, "open_pool", interrupted)
    assert cli.main(["run", "config.yaml"]) == 1
    assert capsys.readouterr().err.splitlines() == ["the display is left", to_go_on(folder)]


@pytest.mark.parametrize("when", ["before Ray", "in Ray", "after Ray"])
def test_a_run_that_is_terminated_while_it_starts_says_how_to_go_on(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    before = signal.getsignal(signal.SIGTERM)

    def open_pool(config: object, *, tell: object) -> Pool:
        if when == "before Ray":
            signal.raise_signal(signal.SIGTERM)
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(number))  # as Ray does
        if when == "in Ray":
            signal.raise_signal(signal.SIGTERM)
        return WordPool()

    async def work(*_: object, **__: object) -> None:
        signal.raise_signal(signal.SIGTERM)
        await asyncio.sleep(60)

    monkeypatch.setattr(run_command, "open_pool", open_pool)
    monkeypatch.setattr(run_command, "work", work)
    assert cli.main(["run", "config.yaml"]) == 1
    assert capsys.readouterr().err.splitlines()[-1] == to_go_on(folder)
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("options", [[], ["--json"]])
@pytest.mark.parametrize("full", [False, True])
def test_a_run_outlives_whoever_reads_its_output(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, options: list[str], full: bool
) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with open("/dev/full" if full else writing, "w") as closed, monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", closed)
        assert cli.main(["run", "config.yaml", *options]) == 0
    if full:
        os.close(writing)
    assert "2 of 2 problems solved" in (folder / "out" / "report.md").read_text()
    (line,) = capsys.readouterr().err.splitlines()
    why = "cannot be written: No space left on device" if full else "was closed"
    assert line == f"kernelloop: standard output {why}; what comes of the run will be in {folder / 'out' / 'report.md'}"


@pytest.mark.parametrize("fails", [False, True])
def test_a_report_that_cannot_be_written_hides_neither_the_summary_nor_the_reason(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    def opened(config: object, *, tell: object) -> Pool:
        (folder / "out" / "report.md").mkdir()  # cannot be replaced by a file
        return WordPool()

    if fails:
        text = (folder / "answers.jsonl").read_text().replace("GOOD now", "GOOD FAULT")
        (folder / "answers.jsonl").write_text(text)
    monkeypatch.setattr(run_command, "open_pool", opened)
    assert cli.main(["run", "config.yaml"]) == 1
    shown = capsys.readouterr()
    assert f"{1 if fails else 2} of 2 problems solved" in shown.out
    *reasons, last = shown.err.splitlines()
    assert reasons == ([to_go_on(folder, reason="the worker died three times")] if fails else [])
    assert last.startswith(f"kernelloop: {folder / 'out' / 'report.md'}: cannot be written: ")


def test_a_file_that_cannot_be_replaced_leaves_nothing_beside(tmp_path: Path) -> None:
    (tmp_path / "report.md").mkdir()
    with pytest.raises(RunFolderError):
        replace_file(tmp_path / "report.md", text="text", durable=True)
    assert [path.name for path in tmp_path.iterdir()] == ["report.md"]


def test_progress_that_cannot_be_written_is_told_once_and_by_name(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = threading.Event()
    calls: list[str] = []

    def full(self: RunFolder, text: str) -> None:
        calls.append(text)
        tried.set()
        raise RunFolderError("no space")

    def opened(config: object, *, tell: object) -> Pool:
        assert tried.wait(timeout=60)
        return WordPool()

    monkeypatch.setattr(RunFolder, "write_progress", full)
    monkeypatch.setattr(run_command, "open_pool", opened)
    assert cli.main(["run", "config.yaml"]) == 0
    assert len(calls) >= 2
    assert capsys.readouterr().err == "kernelloop: progress of the run cannot be watched: no space\n"


def test_an_interrupt_before_the_command_line_is_ready_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupting:
        def find_spec(self, name: str, *_: object) -> None:
            if name == "agent.cli":
                raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(cli, "app", interrupted)
        assert cli.main(["--help"]) == 1
    monkeypatch.delattr(agent, "cli")
    monkeypatch.delitem(sys.modules, "agent.cli")
    monkeypatch.setattr(sys, "meta_path", [Interrupting(), *sys.meta_path])
    assert entry.main() == 1
    assert capsys.readouterr().err == "kernelloop: interrupted\n" * 2


class Stopped:
    """Counts how often it is asked to stop."""

    num_asked = 0

    def stop(self) -> None:
        self.num_asked += 1


def test_a_signal_that_comes_twice_at_once_stops_once(capsys: pytest.CaptureFixture[str]) -> None:
    async def signalled() -> Stopped:
        running = Stopped()
        run_end.stop_on_signals(running)
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
            signal.raise_signal(number)
            await asyncio.sleep(0.01)
        return running

    assert asyncio.run(signalled()).num_asked == 1
    assert capsys.readouterr().err.count("stopping, some seconds") == 1


def test_a_second_interrupt_after_a_while_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_end, "SAME_INTERRUPT_SECONDS", 0.01)
    running = Stopped()

    async def signalled() -> None:
        run_end.stop_on_signals(running)
        signal.raise_signal(signal.SIGINT)
        await asyncio.sleep(0.1)
        signal.raise_signal(signal.SIGTERM)
        await asyncio.sleep(0.01)
        signal.raise_signal(signal.SIGINT)
        await asyncio.sleep(60)

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(signalled())
    assert running.num_asked == 1


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (OSError(30, "Read-only file system"), LedgerNotWritable),
        (PermissionError(13, "Permission denied"), LedgerNotWritable),
        (OSError(28, "No space left on device"), LedgerError),
    ],
)
def test_a_run_that_cannot_be_written_is_named(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, error: OSError,
    kind: type[LedgerError],
) -> None:  # fmt: skip
    real = os.open

    def refused(path: Path, *rest: int) -> int:
        if str(path).endswith(".lock"):
            raise error
        return real(path, *rest)

    assert cli.main(["run", "config.yaml"]) == 0
    capsys.readouterr()
    monkeypatch.setattr(os, "open", refused)
    assert cli.main(["resume", "out"]) == (2 if kind is LedgerNotWritable else 1)
    told = f"{folder / 'out' / 'ledger.sqlite.lock'}: cannot be written: {error.strerror}"
    assert capsys.readouterr().err == f"kernelloop: {told}\n"


def test_a_resume_with_other_problems_names_their_key(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["run", "config.yaml"]) == 0
    (folder / "problems" / "new.py").write_text(PROBLEM)
    (folder / "problems" / "easy.py").write_text(f"{PROBLEM}\n# another\n")
    capsys.readouterr()
    assert cli.main(["resume", "out"]) == 2
    told = "problems.path: the run was begun with other problems (added: new; changed: easy); a resume needs the same"
    assert capsys.readouterr().err == f"kernelloop: {folder / 'out' / 'config.yaml'}: {told}\n"


@pytest.mark.parametrize("options", [[], ["budget.samples=9"]])
def test_nothing_is_started_for_a_run_that_is_done(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, options: list[str]
) -> None:
    assert cli.main(["run", "config.yaml", "budget.samples=8"]) == 0
    monkeypatch.setattr(run_command, "open_pool", None)
    (folder / "out" / "report.md").unlink()
    capsys.readouterr()
    assert cli.main(["resume", "out", *options]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    assert "solved by repair" in shown.out
    assert (folder / "out" / "report.md").is_file()
    assert f"samples: {9 if options else 8}\n" in (folder / "out" / "config.yaml").read_text()
    assert cli.main(["resume", "out", "--json"]) == 0
    assert [line["event"] for line in json_lines(capsys.readouterr().out)] == ["summary"]


def more_samples(folder: Path) -> None:
    """By hand, which no override tells of."""
    config = folder / "out" / "config.yaml"
    config.write_text(config.read_text().replace("samples: 1\n", "samples: 2\n"))


def lose_best(folder: Path) -> None:
    (folder / "out" / "best" / "easy.py").unlink()


def lose_progress(folder: Path) -> None:
    (folder / "out" / "progress.json").unlink()


@pytest.mark.parametrize("change", [more_samples, lose_best, lose_progress])
def test_a_run_of_which_something_may_be_left_is_taken_up(
    folder: Path, capsys: pytest.CaptureFixture[str], change: object
) -> None:
    assert cli.main(["run", "config.yaml", "budget.samples=1"]) == 0
    assert callable(change)
    change(folder)
    capsys.readouterr()
    assert cli.main(["resume", "out", "--json"]) == 0
    lines = json_lines(capsys.readouterr().out)
    assert lines[0]["event"] == "starting"
    assert lines[-1]["spend"]["samples"] == (3 if change is more_samples else 2)
    assert (folder / "out" / "best" / "easy.py").is_file()


def test_a_problem_that_could_not_be_judged_and_what_was_not_confirmed_are_tried_again(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "problems" / "easy.py").write_text(PROBLEM + "\n# INADMISSIBLE\n")
    assert cli.main(["run", "config.yaml"]) == 0
    assert cli.main(["run", "config.yaml", "run_dir=other", "problems.only=[hard]", "confirm.enabled=false"]) == 0
    config = folder / "other" / "config.yaml"
    config.write_text(config.read_text().replace("enabled: false", "enabled: true"))
    for run, event in (("out", "judged"), ("other", "confirmed")):
        capsys.readouterr()
        assert cli.main(["resume", run, "--json"]) == 0
        events = [line["event"] for line in json_lines(capsys.readouterr().out)]
        assert events[0] == "starting"
        assert (event in events) == (run == "other")  # the problem fails again, before a verdict
