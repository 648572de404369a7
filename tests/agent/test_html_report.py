"""The HTML report states what is on record, needs nothing else, and shows hostile text as text."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent import cli, html_report
from agent.faults import Fault, FaultKind, FaultLog
from agent.html_costs import MAX_PROBLEMS
from agent.html_report import report_html
from agent.ledger import Ledger
from agent.mending import FIXED_BY
from agent.run_folder import RunFolder
from agent.run_record import read_run
from agent.source_view import difference, highlighted, visible
from sandbox.types import Operator, Status
from tests.scripted_run import ScriptedRun, failed, passed

HOSTILE = "</script></style></pre></textarea><img src=x onerror=alert(1)><svg onload=alert(2)>&amp;\"'"


def page(folder: RunFolder) -> str:
    with Ledger.open_read_only(folder.ledger) as ledger:
        return report_html(read_run(folder), ledger=ledger)


class Reader(HTMLParser):
    """What a browser would make of a page: tags with attributes, and texts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        """What is read aloud, with a space between any two elements."""
        return " ".join(
            " ".join(text for text in self.texts if ":root" not in text and "use strict" not in text).split()
        )


@pytest.fixture
def run(tmp_path: Path) -> ScriptedRun:
    """One problem solved by a repair and confirmed at 3x, one unsolved, one not begun."""
    with ScriptedRun(tmp_path / "run", "gelu", "sums", "later") as run:
        draft = run.add("gelu", "x = 1\ny = 2\n", failed(feedback="draft feedback"))
        repaired = run.add("gelu", "x = 1\ny = 3\n", passed(speedup=3.2), operator=Operator.REPAIR, parents=(draft,))
        run.end("gelu", detail="samples")
        run.confirm("gelu", repaired, passed(speedup=3.0))
        run.add("sums", "def f():\n    pass\n", failed(Status.WRONG_VALUES, error_class="WrongValues"))
        run.end("sums", detail="samples")
    return run


def test_the_page_says_what_each_gpu_judged_and_what_failed_there(tmp_path: Path) -> None:
    with ScriptedRun(tmp_path / "run", "gelu") as run:
        run.add("gelu", "x = 1\n", replace(passed(speedup=2.0), gpu="GPU-a"))
    FaultLog(run.folder.faults, clock=lambda: 0.0).tell(
        Fault(kind=FaultKind.GPU_QUARANTINED, gpus=("GPU-b",), reason=f"3 faults {HOSTILE}")
    )
    text = page(run.folder)
    read = Reader(text).text
    assert re.search(r"GPU-a not told 1 [0-9.]+", read)
    assert "in quarantine, and no candidate is judged any more on GPU-b: 3 faults" in read
    assert HOSTILE not in text


def test_the_page_states_result_lineage_difference_and_conditions(run: ScriptedRun) -> None:
    text = page(run.folder)
    read = Reader(text).text
    assert "1 of 3 problems solved" in read
    assert "1 of 3 searches have not ended" in read
    assert "3.00x (2.85 to 3.15) against eager" in read  # the confirmed figure, not the search's
    assert "while searching 3.20x" in read
    assert re.search(r"draft compile_error [0-9a-f]{12} .* repair passed [0-9a-f]{12}", read)
    assert '<span class="removed">-y = 2</span>' in text
    assert '<span class="added">+y = 3</span>' in text
    assert "draft feedback" in read
    assert "strategy: name repair" in read
    assert 'href="best/gelu.py"' in text
    assert 'href="evidence/gelu/"' in text


def test_a_sequential_strategy_gets_no_pass_at_k_and_the_reason(run: ScriptedRun) -> None:
    read = Reader(page(run.folder)).text
    assert "its samples are not independent and pass@k does not hold" in read


def independent(tmp_path: Path, *, speedup: float | None, stop: bool = False) -> RunFolder:
    """Two problems drafted four times each: three passes on one, none on the other."""
    strategy = {"strategy": {"name": "best_of_n", "stop_when_passed": stop}}
    with ScriptedRun(tmp_path / "run", "gelu", "sums", "later", config=strategy) as run:
        for number in range(4):
            run.add("gelu", f"x = {number}", failed() if number == 0 else passed(speedup=speedup))
            run.add("sums", f"x = {number}", failed())
    return run.folder


def test_independent_drafts_get_pass_at_k_over_problems(tmp_path: Path) -> None:
    read = Reader(page(independent(tmp_path, speedup=None))).text
    assert "pass@k 37.5% at k = 1, 50.0% at k = 4" in read  # (3/4 + 0) / 2, and (1 + 0) / 2
    assert "Over 2 problems with 4 drafts each; 1 without a judged draft are left out." in read
    assert "As judged, not confirmed" in read
    assert "fast_p@k" not in read  # nothing was timed


def test_timed_drafts_get_fast_p_at_k_too(tmp_path: Path) -> None:
    read = Reader(page(independent(tmp_path, speedup=1.3))).text
    assert "fast_p@k p = 1: 37.5% at k = 1, 50.0% at k = 4" in read
    assert re.search(
        r"p = 1 p = 1.2 p = 1.5 p = 2 problems 1 37.5% \([^)]*\) 37.5% \([^)]*\) 0.0% \(0.0% to 0.0%\)", read
    )


def test_a_search_that_stopped_at_a_pass_gets_no_pass_at_k(tmp_path: Path) -> None:
    read = Reader(page(independent(tmp_path, speedup=None, stop=True))).text
    assert "pass@k would come out too large" in read
    assert "at k = 1" not in read


def test_turns_by_outcome_under_a_budget_of_the_run_get_no_pass_at_k(tmp_path: Path) -> None:
    """Solved problems are drawn less often there. Without such a budget each search ends by its own."""
    changes: dict[str, Any] = {"strategy": {"name": "best_of_n"}, "allocator": {"name": "expected_gain"}}
    for limit, shown in ((None, True), (8, False)):
        root = tmp_path / str(limit)
        with ScriptedRun(root, "gelu", config=changes | {"run_budget": {"samples": limit}}) as run:
            run.add("gelu", "x = 1", passed())
            run.add("gelu", "x = 2", failed())
            run.end("gelu")
        read = Reader(page(run.folder)).text
        assert ("at k = 1" in read, "Turns went to unsolved problems first" in read) == (shown, not shown)


def test_of_one_problem_there_is_no_interval_over_problems(tmp_path: Path) -> None:
    with ScriptedRun(tmp_path / "run", "gelu", config={"strategy": {"name": "best_of_n"}}) as run:
        run.add("gelu", "x = 1", passed())
        run.add("gelu", "x = 2", failed())
    read = Reader(page(run.folder)).text
    assert "k pass@k problems 1 50.0% 1 2 100.0% 1" in read
    assert "intervals over problems" not in read


def test_of_a_budget_by_tokens_as_many_drafts_count_of_every_problem(tmp_path: Path) -> None:
    """Where short answers fail, a problem that has more of them would come out harder than it is."""
    with ScriptedRun(tmp_path / "run", "long", "short", config={"strategy": {"name": "best_of_n"}}) as run:
        for number in range(2):
            run.add("long", f"x = {number}", passed())
        for number in range(6):
            run.add("short", f"x = {number}", passed() if number == 0 else failed())
    read = Reader(page(run.folder)).text
    assert "pass@k 75.0% at k = 1, 100.0% at k = 2" in read  # 2 of 2 and 1 of 2, not 1 of 6


def test_a_run_that_timed_nothing_says_so_and_shows_no_speedup(tmp_path: Path) -> None:
    with ScriptedRun(tmp_path / "run", "gelu") as run:
        run.add("gelu", "x = 1\n", passed())
        run.end("gelu")
    read = Reader(page(run.folder)).text
    assert "Nothing was timed: no GPU." in read
    assert "best speedup not timed" in read
    assert not re.search(r"\d\.\d+x", read)
    assert "Mean speedup" not in read


def test_answers_without_code_are_no_program_that_came_again(tmp_path: Path) -> None:
    with ScriptedRun(tmp_path / "run", "gelu") as run:
        run.add("gelu", "", failed())
        run.sample("gelu", "")
        run.add("gelu", "some = 1", failed())
        run.sample("gelu", "some = 1")
    read = Reader(page(run.folder)).text
    assert "0 of 1 problems solved, 4 samples (2 without code)" in read
    assert "1 answers repeated a program that was there before; 2 answers held no code." in read


def test_what_rules_mended_is_told_and_costs_no_samples(tmp_path: Path) -> None:
    with ScriptedRun(tmp_path / "run", "gelu") as run:
        draft = run.add("gelu", "x = 1\n", failed())
        mended = replace(passed(), labels=("triton", f"{FIXED_BY}<b>name</b>"))
        run.add("gelu", "y = 1\n", mended, operator=Operator.FIX, parents=(draft,))
    read = Reader(page(run.folder)).text
    assert "rule candidates mended passed <b>name</b> 1 1" in read
    assert "1 of 1 problems solved, 1 samples" in read
    assert re.search(r"draft compile_error [0-9a-f]{12} .* fix passed [0-9a-f]{12}", read)


def test_where_gpu_seconds_and_dollars_went_is_told_by_operator_and_by_problem(run: ScriptedRun) -> None:
    """A sample is 100 + 50 tokens; what passed took half a GPU second."""
    prices = {"gpu_hour": 7200.0, "prompt_tokens_per_million": 10000.0, "completion_tokens_per_million": 20000.0}
    config = yaml.safe_load(run.folder.config.read_text()) | {"prices": prices}
    run.folder.write_config(yaml.safe_dump(config))
    read = Reader(page(run.folder)).text
    head = "GPU seconds share US dollars share bar"
    told = "Where GPU seconds and US dollars went, by operator"
    assert f"{told} operator {head} draft 0 0.0% 4 57.1% repair 0.5 100.0% 3 42.9%" in read
    told = "Where GPU seconds and US dollars went, by problem, the dearest first"
    assert f"{told} problem {head} gelu 0.5 100.0% 5 71.4% sums 0 0.0% 2 28.6% later 0 0.0% 0 0.0%" in read


def test_what_has_no_price_and_took_no_gpu_has_no_table_of_costs(tmp_path: Path) -> None:
    with ScriptedRun(tmp_path / "run", "gelu") as run:
        run.add("gelu", "x = 1\n", failed())
    assert "went, by" not in Reader(page(run.folder)).text


def test_of_very_many_problems_the_dearest_are_named(tmp_path: Path) -> None:
    problem_ids = [f"p{number}" for number in range(MAX_PROBLEMS + 3)]
    with ScriptedRun(tmp_path / "run", *problem_ids) as run:
        run.add("p41", "x = 1\n", passed(speedup=2.0))
    read = Reader(page(run.folder)).text
    assert "the dearest first problem GPU seconds share bar p41 0.5 100.0% p0 0 0.0%" in read
    assert "3 others 0 0.0%" in read


def test_seeds_are_counted_and_not_named(run: ScriptedRun) -> None:
    read = Reader(page(run.folder)).text
    assert "3 secret seeds" in read
    assert "11, 12, 13" not in read


@pytest.fixture
def hostile(tmp_path: Path) -> ScriptedRun:
    """Every place that a candidate or a problem can write to holds the same attack."""
    config: dict[str, Any] = {"sampler": {"kind": HOSTILE, "path": HOSTILE}, "seed": HOSTILE}
    with ScriptedRun(tmp_path / "run", HOSTILE, "plain", config=config) as run:
        attack = failed(error_class=HOSTILE, message=HOSTILE, feedback=HOSTILE, source_line=HOSTILE)
        draft = run.add(HOSTILE, f"# {HOSTILE}\nx = '{HOSTILE}'\n{HOSTILE}", attack)
        repaired = run.add(HOSTILE, f'"""{HOSTILE}"""', passed(), operator=Operator.REPAIR, parents=(draft,))
        run.end(HOSTILE, detail=HOSTILE)
        run.confirm(HOSTILE, repaired, passed())
        run.add("plain", HOSTILE, attack)
        run.end("plain", detail=HOSTILE)
    run.folder.write_environment({HOSTILE: HOSTILE, "gpu": HOSTILE})
    return run


def test_hostile_text_stays_text(hostile: ScriptedRun) -> None:
    reader = Reader(page(hostile.folder))
    tags = {tag for tag, _ in reader.tags}
    assert not tags & {"img", "iframe", "object", "embed", "link", "base", "audio", "video", "textarea"}
    names = {name for _, attributes in reader.tags for name in attributes}
    assert not {name for name in names if name.startswith("on") or name in ("style", "src", "srcset", "action")}
    assert sum(tag == "script" for tag, _ in reader.tags) == sum(tag == "style" for tag, _ in reader.tags) == 1
    links = [attributes["href"] or "" for tag, attributes in reader.tags if tag == "a"]
    assert all(link.startswith(("#", "best/", "evidence/")) and "<" not in link for link in links)
    assert HOSTILE in "".join(reader.texts)  # it is shown, as what it is


def test_the_policy_allows_the_pages_own_style_and_script_alone(hostile: ScriptedRun) -> None:
    text = page(hostile.folder)
    reader = Reader(text)
    (policy,) = [a["content"] for tag, a in reader.tags if tag == "meta" and "http-equiv" in a]
    assert policy is not None
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    for tag in ("style", "script"):
        (inner,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, flags=re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inner.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert text.index("Content-Security-Policy") < text.index("<style>")


def test_what_cannot_be_seen_is_marked() -> None:
    assert visible("a\u202eb\x00c\x1b[1m\ttab\r\nline") == "a\ufffdb\ufffdc\ufffd[1m\ttab\nline"
    assert "\u202e" not in highlighted("# \u202e\n")
    assert "\x00" not in (difference("\x00", "a\x00") or "")


def test_highlighting_keeps_every_character_and_numbers_each_line() -> None:
    source = 'import torch\n\n"""two\nlines"""\nx = 1 < 2 and "&"\n'
    shown = highlighted(source)
    assert "".join(Reader(shown).texts) == source
    assert shown.count('<span class="line">') == 5
    assert '<span class="k">import</span>' in shown


def test_a_source_that_is_too_long_is_cut_and_says_so() -> None:
    assert "10000 more characters are left out here" in Reader(highlighted("x" * 50_000)).text
    assert difference("a\n" * 2000, "b\n") is None


def test_past_the_bound_of_its_size_a_page_leaves_sources_out_and_says_so(
    run: ScriptedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = page(run.folder)
    monkeypatch.setattr(html_report, "MAX_PROBLEM_CHARACTERS", 100)
    brief = page(run.folder)
    assert "the last 2 of 3 problems are shown without their sources" in Reader(brief).text
    assert len(brief) < len(whole)
    assert brief.count('class="source"') == 2  # of the first problem: its draft and its winner


def test_the_command_writes_both_reports(run: ScriptedRun, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["report", str(run.folder.root), "--html"]) == 0
    assert capsys.readouterr().out.strip() == str(run.folder.html_report)
    assert run.folder.html_report.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert run.folder.report.is_file()


def test_a_run_without_any_event_has_a_report(tmp_path: Path) -> None:
    with ScriptedRun(tmp_path / "run", "gelu") as run:
        pass
    assert "0 of 1 problems solved" in Reader(page(run.folder)).text
