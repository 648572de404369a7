"""Every event is a row, in columns that the documentation lists."""

from __future__ import annotations

import csv
import errno
import importlib.util
import os
import re
from pathlib import Path
from typing import NoReturn

import pytest

from agent import cli, export_command
from agent.event_table import COLUMNS, TEXT_COLUMNS, Kind
from agent.run_folder import RunFolder
from sandbox.types import Operator
from tests.scripted_run import ScriptedRun, failed, passed

ROOT = Path(cli.__file__).parents[1]
AWKWARD = 'two\nlines, "quoted"; é'


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    with ScriptedRun(tmp_path / "run", "gelu", group=1) as run:
        draft = run.add("gelu", AWKWARD, failed(message=AWKWARD, feedback=AWKWARD))
        repaired = run.add("gelu", "b", passed(speedup=4.0), operator=Operator.REPAIR, parents=(draft,))
        run.refuse("gelu", "no more")
        run.end("gelu", detail="samples")
        run.confirm("gelu", repaired, passed(speedup=3.5))
    return run.folder


def exported(folder: RunFolder, *options: str) -> list[dict[str, str]]:
    assert cli.main(["export", str(folder.root), "--csv", *options]) == 0
    with (folder.root / "events.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_each_event_is_a_row_in_order(folder: RunFolder) -> None:
    rows = exported(folder)
    events = ["proposed", "sampled", "judged"] * 2 + ["proposed", "unsampled", "search_ended", "confirmed"]
    assert [row["event"] for row in rows] == events
    assert [int(row["seq"]) for row in rows] == list(range(1, 11))
    assert [float(row["seconds"]) for row in rows] == [float(second) for second in range(1, 11)]
    assert list(rows[0]) == [column.name for column in COLUMNS]


def test_a_sample_has_its_counts_and_a_verdict_its_figures(folder: RunFolder) -> None:
    rows = exported(folder)
    sampled, failure, success, confirmed = rows[1], rows[2], rows[5], rows[9]
    assert (sampled["prompt_tokens"], sampled["completion_tokens"], sampled["truncated"]) == ("100", "50", "false")
    assert (sampled["finish_reason"], sampled["sampler"]) == ("stop", "recorded")
    assert (failure["status"], failure["message"], failure["speedup"]) == ("compile_error", AWKWARD, "")
    assert (failure["trace_seconds"], failure["interpret_seconds"]) == ("0.5", "")
    assert (success["operator"], success["parents"]) == ("repair", failure["candidate_id"])
    assert (success["speedup"], success["baseline_eager_us"], success["baseline_compile_us"]) == ("4.0", "40.0", "")
    assert (confirmed["candidate_id"], confirmed["speedup"]) == (success["candidate_id"], "3.5")
    assert (rows[8]["end"], rows[8]["detail"]) == ("budget", "samples")


def test_texts_are_left_out_unless_asked_for(folder: RunFolder) -> None:
    assert "source" not in exported(folder)[1]
    rows = exported(folder, "--texts")
    assert (rows[1]["source"], rows[1]["prompt"], rows[1]["completion"]) == (AWKWARD, "write it", AWKWARD)
    assert rows[2]["feedback"] == AWKWARD


def test_an_unwritable_file_is_told_in_one_line_and_nothing_is_left(
    folder: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = folder.root / "no" / "such" / "folder.csv"
    assert cli.main(["export", str(folder.root), "--csv", "--out", str(missing)]) == 2
    assert "cannot be written" in capsys.readouterr().err
    assert not [path for path in folder.root.iterdir() if path.name.endswith(".tmp")]


def test_a_read_only_disk_is_told_as_any_other_that_cannot_be_written(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(path: Path, *args: object, **options: object) -> NoReturn:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr(Path, "unlink", refuse)  # which a read-only disk refuses even where there is no such file
    monkeypatch.setattr(Path, "open", refuse)
    assert cli.main(["export", str(folder.root), "--csv"]) == 2
    wanted = folder.root / "events.csv"
    told = f"export: {wanted}: cannot be written: Read-only file system; name another place with --out FILE"
    assert capsys.readouterr().err == f"kernelloop: {told}\n"


@pytest.mark.parametrize("options", [[], ["--csv", "--parquet"]])
def test_one_format_is_asked_for(folder: RunFolder, options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["export", str(folder.root), *options]) == 2
    assert "one of --csv and --parquet" in capsys.readouterr().err


def test_without_pyarrow_the_extra_is_named(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(export_command, "find_spec", lambda name: None)
    assert cli.main(["export", str(folder.root), "--parquet"]) == 2
    told = capsys.readouterr().err
    assert "kernelloop[parquet]" in told
    assert len(told.splitlines()) == 1


@pytest.mark.skipif(importlib.util.find_spec("pyarrow") is None, reason="needs pyarrow")
def test_parquet_holds_the_same_with_types(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    from pyarrow import parquet

    monkeypatch.setattr(export_command, "ROWS_A_GROUP", 3)  # so that there are several groups
    assert cli.main(["export", str(folder.root), "--parquet", "--texts"]) == 0
    table = parquet.read_table(folder.root / "events.parquet")
    assert table.column_names == [column.name for column in COLUMNS + TEXT_COLUMNS]
    assert table.column("seq").to_pylist() == list(range(1, 11))
    assert table.column("truncated").to_pylist()[1] is False
    assert table.column("speedup").to_pylist()[5] == 4.0
    assert table.column("source").to_pylist()[1] == AWKWARD


def test_the_documentation_lists_the_columns_with_their_kinds() -> None:
    text = (ROOT / "docs" / "export.md").read_text(encoding="utf-8")
    documented = re.findall(r"^\| `(\w+)` \| (\w+) \| ", text, flags=re.MULTILINE)
    assert documented == [(column.name, column.kind.value) for column in COLUMNS + TEXT_COLUMNS]
    assert {kind for _, kind in documented} == {kind.value for kind in Kind}
