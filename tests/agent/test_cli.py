"""The command line through its own door: exit codes, mistakes in one line, whole runs with a scripted judge."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from agent import cli, run_command
from agent.pool import Pool, PoolError
from agent.sampler import Completion, RecordedSampler, SampleRequest, SamplerRefused
from sandbox.types import Candidate, Problem, Verdict
from tests.agent.command_folder import command_folder, json_lines
from tests.agent.word_pool import PROBLEM, WordPool

ROOT = Path(cli.__file__).parents[1]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return command_folder(tmp_path, monkeypatch)


def test_help_is_quick_and_loads_nothing_heavy() -> None:
    heavy = "('torch', 'triton', 'ray', 'vllm', 'transformers')"
    code = f"import sys; from agent import cli; cli.main(['--help']); sys.exit(any(n in sys.modules for n in {heavy}))"
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "doctor" in done.stdout
    assert (
        resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before < 2.0
    )  # 0.2 s; of the processor, not the clock


def test_a_run_reports_what_was_solved_and_that_nothing_was_timed(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["run", "config.yaml"]) == 0
    shown = capsys.readouterr().out
    assert "solved by draft" in shown
    assert "solved by repair" in shown
    assert "2 of 2 problems solved, 3 samples" in shown
    assert "Nothing was timed: no GPU." in shown
    report = (folder / "out" / "report.md").read_text()
    assert "Nothing was timed: no GPU." in report
    assert "0.00" not in report
    assert (folder / "out" / "best" / "hard.py").read_text().endswith("class ModelNew:\n    pass\n")
    assert {"config.yaml", "environment.json", "ledger.sqlite"} <= {path.name for path in (folder / "out").iterdir()}


def test_json_prints_one_object_a_line_and_the_summary_last(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["run", "config.yaml", "--json", "problems.only=[hard]"]) == 0
    lines = json_lines(capsys.readouterr().out)
    events = [line["event"] for line in lines]
    assert events[:2] == ["starting", "run_started"]
    assert lines[0]["run_dir"] == str(Path("out").absolute())
    assert events.count("judged") == 2
    assert events[-1] == "summary"
    assert lines[-1]["num_solved"] == 1
    assert lines[-1]["timed"] is False
    (problem,) = lines[-1]["problems"]
    assert problem["operator"] == "repair"
    assert problem["speedup"] is None


def test_overrides_reach_the_run_and_its_resolved_configuration(folder: Path) -> None:
    assert cli.main(["run", "config.yaml", "budget.samples=1", "run_dir=other"]) == 0
    assert "samples: 1" in (folder / "other" / "config.yaml").read_text()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["run", "none.yaml"], ["none.yaml: cannot be read: No such file"]),
        (["run", "config.yaml", "budget.sample=3"], ["config.yaml", "budget.sample", "samples, tokens"]),
        (["run", "config.yaml", "judge.mode=fast"], ["config.yaml", "judge.mode", "interpret"]),
        (["run", "config.yaml", "budget.samples"], ["key=value"]),
        (["run", "config.yaml", "problems=none"], ["problems.path", "none"]),
        (["run", "config.yaml", "problems.only=[hrad]"], ["config.yaml", "problems.only", "hrad", "easy, hard"]),
        (["run", "config.yaml", "problems.levels=[1]"], ["config.yaml", "levels"]),
        (["run", "config.yaml", "judge.mode=replay"], ["config.yaml", "judge.mode", "auto, interpret"]),
        (["run", "config.yaml", "run_dir=problems"], ["run_dir", "not empty"]),
        (["run", "config.yaml", "run_dir=config.yaml"], ["run_dir: cannot make a folder", "config.yaml: File exists"]),
        (["resume", "problems"], ["problems", "config.yaml"]),
        (["report", "none"], ["none"]),
        (["judge", "problems/easy.py"], ["CANDIDATE.py"]),
        (["judge", "none.py", "none.py"], ["none.py"]),
        (["judge", "problems/easy.py", "none.py"], ["none.py"]),
        (["judge", "--pairs", "config.yaml"], ["--out"]),
        (["judge", "--pairs", "config.yaml", "--out", "v.jsonl"], ["config.yaml:1", "JSON"]),
        (
            ["judge", "a", "b", "--mode", "fast"],
            ["'--mode': 'fast' is not", "interpret", "judge --help"],
        ),
        (["run"], ["CONFIG.yaml", "see kernelloop run --help"]),
        (["trace", "none.py", "--problem", "problems/easy.py"], ["none.py"]),
        (["juge"], ["judge", "see kernelloop --help"]),
    ],
)
def test_a_mistake_of_the_users_is_one_line_and_exit_code_2(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], named: list[str]
) -> None:
    assert cli.main(arguments) == 2
    told = capsys.readouterr().err
    assert len(told.splitlines()) == 1
    for part in named:
        assert part in told


@pytest.mark.parametrize(
    ("command", "usage"),
    [
        ("run", "kernelloop run [OPTIONS] {CONFIG.yaml} [KEY=VALUE]..."),
        ("judge", "kernelloop judge [OPTIONS] [PROBLEM.py] [CANDIDATE.py]"),
    ],
)
def test_the_usage_of_a_command_has_each_bracket_once(
    command: str, usage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([command, "--help"]) == 0
    assert f" {usage} " in capsys.readouterr().out


def test_an_interrupt_of_any_command_is_one_line_and_exit_code_1(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> Path:
        raise KeyboardInterrupt

    monkeypatch.setattr(run_command, "write_report", interrupted)
    assert cli.main(["report", "out"]) == 1
    assert capsys.readouterr().err == "kernelloop: interrupted\n"


def test_a_mistake_leaves_no_run_folder_behind(folder: Path) -> None:
    assert cli.main(["run", "config.yaml", "sampler.path=config.yaml"]) == 2
    assert not (folder / "out").exists()


def test_a_file_that_is_no_problem_is_named_and_left_out(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "problems" / "broken.py").write_text("def get_inputs(:\n")
    assert cli.main(["run", "config.yaml"]) == 0
    assert capsys.readouterr().err.count("broken.py") == 1


def test_an_inadmissible_problem_is_reported_and_the_others_go_on(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "problems" / "easy.py").write_text(PROBLEM + "\n# INADMISSIBLE\n")
    assert cli.main(["run", "config.yaml"]) == 0
    shown = capsys.readouterr().out
    assert "1 of 2 problems solved" in shown
    assert "easy: inadmissible: the reference does not agree with itself" in shown
    assert cli.main(["report", "out"]) == 0
    report = (folder / "out" / "report.md").read_text()
    assert "- easy: inadmissible: the reference does not agree with itself" in report


def test_our_fault_is_exit_code_1_and_the_run_goes_on_where_it_stopped(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (folder / "answers.jsonl").read_text().replace("GOOD now", "GOOD FAULT")
    (folder / "answers.jsonl").write_text(text)
    assert cli.main(["run", "config.yaml"]) == 1
    told = capsys.readouterr().err
    assert "the worker died three times" in told
    assert "kernelloop resume" in told

    async def mended(self: WordPool, problem: Problem, candidate: Candidate) -> Verdict:
        source = candidate.source.replace("FAULT", "")
        verdict = await judge(
            self, problem, Candidate(problem_id=problem.id, source=source, operator=candidate.operator)
        )
        return Verdict.from_json(verdict.to_json() | {"candidate_id": candidate.id})

    judge = WordPool.judge
    monkeypatch.setattr(WordPool, "judge", mended)
    assert cli.main(["resume", "out", "--json"]) == 0
    lines = json_lines(capsys.readouterr().out)
    assert [line["event"] for line in lines].count("sampled") == 0
    assert lines[-1]["num_solved"] == 2


def test_an_interrupted_run_says_how_to_go_on(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    judge = WordPool.judge

    async def interrupted(self: WordPool, problem: Problem, candidate: Candidate) -> Verdict:
        signal.raise_signal(signal.SIGINT)
        return await judge(self, problem, candidate)

    monkeypatch.setattr(WordPool, "judge", interrupted)
    assert cli.main(["run", "config.yaml"]) == 1
    told = capsys.readouterr().err.splitlines()
    assert told[-1] == f"kernelloop: interrupted; to go on: kernelloop resume {folder / 'out'}"
    monkeypatch.setattr(WordPool, "judge", judge)
    assert cli.main(["resume", "out"]) == 0
    assert "2 of 2 problems solved" in capsys.readouterr().out


def test_a_server_that_refuses_the_model_is_the_users_to_mend(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refused(self: RecordedSampler, request: SampleRequest) -> Completion:
        raise SamplerRefused("http://x/v1: status 404: no such model")

    with monkeypatch.context() as patched:
        patched.setattr(RecordedSampler, "sample", refused)
        assert cli.main(["run", "config.yaml"]) == 2
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 1
    for part in ("status 404: no such model", "config.yaml", f"kernelloop resume {folder / 'out'}"):
        assert part in told[0]
    assert cli.main(["resume", "out"]) == 0


def test_a_changed_problem_cannot_be_resumed_and_nothing_is_started(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli.main(["run", "config.yaml"]) == 0
    (folder / "problems" / "easy.py").write_text(PROBLEM + "\n# changed\n")
    monkeypatch.setattr(run_command, "open_pool", None)
    assert cli.main(["resume", "out"]) == 2
    assert "changed: easy" in capsys.readouterr().err


def test_a_pool_that_does_not_open_leaves_a_run_to_resume(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def closed(config: object, *, tell: object) -> Pool:
        raise PoolError("Ray could not start")

    with monkeypatch.context() as patched:
        patched.setattr(run_command, "open_pool", closed)
        assert cli.main(["run", "config.yaml"]) == 1
    (told,) = capsys.readouterr().err.splitlines()
    assert "Ray could not start; to go on: kernelloop resume" in told
    assert cli.main(["resume", "out"]) == 0


def test_a_template_that_is_gone_when_it_is_needed_leaves_nothing_open(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[Pool] = []

    class WatchedPool(WordPool):
        async def close(self) -> None:
            closed.append(self)

    def opened(config: object, *, tell: object) -> Pool:
        (folder / "prompt.txt").unlink()
        return WatchedPool()

    (folder / "prompt.txt").write_text("Write it: {}")
    monkeypatch.setattr(run_command, "open_pool", opened)
    sampler = "sampler={kind: http, base_url: 'http://localhost:1', model: m, template: prompt.txt}"
    assert cli.main(["run", "config.yaml", sampler]) == 2
    assert "prompt.txt" in capsys.readouterr().err
    assert len(closed) == 1


def test_a_missing_key_is_found_before_a_run_folder_is_made(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sampler = "sampler={kind: http, base_url: 'http://localhost:1', model: m, api_key_env: NO_SUCH_KEY}"
    assert cli.main(["run", "config.yaml", sampler]) == 2
    assert "NO_SUCH_KEY" in capsys.readouterr().err
    assert not (folder / "out").exists()


def test_a_run_records_the_mode_that_auto_came_to(folder: Path) -> None:
    assert cli.main(["run", "config.yaml"]) == 0
    assert "mode: interpret" in (folder / "out" / "config.yaml").read_text()


def test_a_damaged_ledger_is_one_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["run", "config.yaml"]) == 0
    (folder / "out" / "ledger.sqlite").write_bytes(b"not a database" * 1000)
    for command in ("resume", "report"):
        capsys.readouterr()
        assert cli.main([command, "out"]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert "ledger.sqlite: file is not a database" in line


def test_a_report_can_be_written_again(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["run", "config.yaml"]) == 0
    (folder / "out" / "report.md").unlink()
    assert cli.main(["report", "out"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(folder / "out" / "report.md")
    assert "# Run out" in (folder / "out" / "report.md").read_text()


def test_a_terminal_shows_that_a_report_is_being_written(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli.main(["run", "config.yaml"]) == 0
    capsys.readouterr()
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes this for a terminal
    assert cli.main(["report", "out"]) == 0
    shown = capsys.readouterr()
    assert "writing the report ..." in shown.err
    assert shown.out == f"{folder / 'out' / 'report.md'}\n"


def test_a_run_in_use_cannot_be_resumed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["run", "config.yaml"]) == 0
    code = "from agent.ledger import Ledger; import sys; l = Ledger.open(sys.argv[1]); print(); input()"
    command = [sys.executable, "-c", code, str(folder / "out" / "ledger.sqlite")]
    holder = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with holder:
        assert holder.stdout is not None and holder.stdin is not None
        holder.stdout.readline()
        assert cli.main(["resume", "out"]) == 2
        holder.stdin.write(b"\n")
    assert "another process" in capsys.readouterr().err


def test_doctor_names_the_missing_gpu(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sandbox.environment.output_of", lambda command: None)
    assert cli.main(["doctor"]) == 0
    assert "GPU" in capsys.readouterr().out


def test_doctor_tells_a_mistake_in_the_configuration_before_anything_else(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor", "nosuch.yaml"]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("kernelloop: nosuch.yaml: cannot be read: ")


def test_confirmation_is_configured_and_shown(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["run", "config.yaml", "--json"]) == 0
    lines = json_lines(capsys.readouterr().out)
    assert [line["event"] for line in lines].count("confirmed") == 2
    assert [problem["confirmed"] for problem in lines[-1]["problems"]] == [True, True]
    assert (folder / "out" / "evidence" / "easy" / "manifest.json").is_file()
    assert cli.main(["run", "config.yaml", "--json", "run_dir=other", "confirm.enabled=false"]) == 0
    lines = json_lines(capsys.readouterr().out)
    assert [problem["confirmed"] for problem in lines[-1]["problems"]] == [False, False]
    assert cli.main(["run", "config.yaml", "run_dir=bad", "confirm.candidates=0"]) == 2
