"""A bundle of evidence: whole or named as damaged, and judged again through the command line."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from agent import cli, rejudge
from agent.evidence import Bundle, BundleDamaged, read_bundle, write_bundle
from agent.pool import CONFIRM_EXTRA_SEEDS
from agent.run_folder import RunFolderError
from sandbox.plan import Kernel, Plan, decode, encode
from sandbox.settings import JudgeSettings
from sandbox.types import Candidate, Correctness, Failure, Operator, Performance, Problem, Status, Tolerance, Verdict
from tests.judge_settings import judge_settings

PROBLEM = Problem(id="p", source="# é\r\nclass Model: ...", origin="here", tolerance=Tolerance(rms=5.0))
CANDIDATE = Candidate(
    problem_id="p", source="class ModelNew: ...\r\n", operator=Operator.REPAIR, parent_ids=("a" * 32,)
)


def kernel(name: str, *, cubin: bytes) -> Kernel:
    return Kernel(
        name=name, entry="entry", cubin=cubin, capability=90, num_warps=4, num_ctas=1, shared_bytes=0,
        global_scratch_bytes=0, global_scratch_align=1, profile_scratch_bytes=0, cooperative=False, pdl=False,
        num_registers=16, local_bytes=0, params=(), constants={}, functions={}, names={}, divisible=(),
        options={"num_warps": 4, "num_ctas": 1, "num_stages": 3}, dots=(), noinline=(), descriptors=(),
    )  # fmt: skip


def performance(speedup: float, *, gpu: str = "NVIDIA H200", against: str = "eager") -> Performance:
    return Performance(
        runtime_us=10.0,
        baseline_us={against: 10.0 * speedup},
        against=against,
        speedup=speedup,
        speedup_low=speedup - 0.1,
        speedup_high=speedup + 0.1,
        repetitions=3,
        samples_us={"candidate": (9.5, 10.0, 10.5)},
        conditions={"gpu": gpu},
    )


def passed(speedup: float | None = None, **changes: str) -> Verdict:
    return Verdict(
        candidate_id=CANDIDATE.id,
        status=Status.PASSED,
        plan_hash="h",
        correctness=Correctness(
            checked_by="replay", seeds=(5, 6), weights="none", max_error_ratio=0.25, rms_error_ratio=float("inf")
        ),
        performance=None if speedup is None else performance(speedup, **changes),
    )


def failed(status: Status) -> Verdict:
    return Verdict(
        candidate_id=CANDIDATE.id, status=status, failure=Failure(error_class="E", message="\x1b[31mno [bold]")
    )


def bundle(verdict: Verdict | None = None, *, plan: bytes | None = None) -> Bundle:
    return Bundle(
        problem=PROBLEM,
        candidate=CANDIDATE,
        verdict=verdict or passed(2.0),
        searching=passed(2.5),
        plan=plan,
        settings=asdict(judge_settings()),
        environment={"gpu": "NVIDIA H200", "cores": 2},
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "evidence" / "p"


def test_a_bundle_reads_back_as_it_was_to_the_byte(folder: Path) -> None:
    write_bundle(bundle(), folder)
    found = read_bundle(folder)
    assert (found.problem, found.candidate) == (PROBLEM, CANDIDATE)
    assert (found.verdict, found.searching) == (passed(2.0), passed(2.5))
    assert found.settings["num_seeds"] == judge_settings().num_seeds
    assert json.loads((folder / "seeds.json").read_text()) == {"verdict": [5, 6], "searching": [5, 6]}
    assert json.loads((folder / "samples_us.json").read_text())["verdict"]["candidate"] == [9.5, 10.0, 10.5]


def test_every_file_of_a_bundle_is_strict_json(folder: Path) -> None:
    def refuse(word: str) -> None:
        raise ValueError(f"{word} is not JSON")

    write_bundle(bundle(), folder)
    told = {path.name: json.loads(path.read_text(), parse_constant=refuse) for path in folder.glob("*.json")}
    assert told["verdict.json"]["verdict"]["correctness"]["rms_error_ratio"] == "inf"


def test_the_manifest_has_the_sha_256_of_every_other_file(folder: Path) -> None:
    write_bundle(bundle(), folder)
    manifest = json.loads((folder / "manifest.json").read_text())["sha256"]
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert set(manifest) == there - {"manifest.json"}
    assert manifest["candidate.py"] == hashlib.sha256(CANDIDATE.source.encode()).hexdigest()


def test_every_kernel_has_a_file_whatever_its_name(folder: Path) -> None:
    cubins = [b"\x7fELF" + bytes([n]) * 64 for n in range(3)]
    names = ("add", "add", "../../out/\x1b[0m" + "x" * 400)
    kernels = tuple(kernel(name, cubin=cubin) for name, cubin in zip(names, cubins, strict=True))
    empty: dict[str, Any] = dict.fromkeys(("storages", "values", "init_steps", "steps", "inputs", "weights"), ())
    raw = encode(Plan(**empty, kernels=kernels, outputs=None, labels=()))
    decode(raw)
    write_bundle(bundle(plan=raw), folder)
    files = sorted((folder / "cubins").iterdir())
    assert [path.read_bytes() for path in files] == cubins
    assert [path.name for path in files][:2] == ["000_add.cubin", "001_add.cubin"]
    assert (folder / "plan.json").read_bytes() == raw == read_bundle(folder).plan


@pytest.mark.parametrize("name", ["candidate.py", "problem.py", "verdict.json", "environment.json", "seeds.json"])
def test_a_changed_or_missing_file_is_named(folder: Path, name: str) -> None:
    write_bundle(bundle(), folder)
    with (folder / name).open("ab") as file:
        file.write(b" ")
    with pytest.raises(BundleDamaged, match=name):
        read_bundle(folder)
    (folder / name).unlink()
    with pytest.raises(BundleDamaged, match=name):
        read_bundle(folder)


def drop(manifest: dict[str, Any]) -> None:
    del manifest["sha256"]["candidate.py"]


def climb(manifest: dict[str, Any]) -> None:
    manifest["sha256"]["../p/candidate.py"] = manifest["sha256"].pop("candidate.py")


def absolute(manifest: dict[str, Any]) -> None:
    manifest["sha256"]["/etc/hostname"] = "0"


def nul(manifest: dict[str, Any]) -> None:
    manifest["sha256"]["\0"] = "0"


def half_a_character(manifest: dict[str, Any]) -> None:
    manifest["sha256"]["\ud800"] = "0"


@pytest.mark.parametrize("change", [drop, climb, absolute, nul, half_a_character, dict.clear])
def test_a_manifest_that_is_none_is_refused(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    write_bundle(bundle(), folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    change(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleDamaged, match=r"manifest\.json"):
        read_bundle(folder)


@pytest.mark.parametrize("name", ["candidate.py", "manifest.json"])
def test_what_is_no_plain_file_is_refused_unread(folder: Path, name: str) -> None:
    """An endless device behind a link would fill the memory, a pipe would be waited for."""
    write_bundle(bundle(), folder)
    path = folder / name
    path.unlink()
    path.symlink_to("/dev/zero")
    with pytest.raises(BundleDamaged, match=name):
        read_bundle(folder)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(BundleDamaged, match=f"{name}: is no plain file"):
        read_bundle(folder)


def test_a_folder_that_is_no_bundle_is_not_replaced_and_a_bundle_is(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "mine.txt").write_text("precious")
    with pytest.raises(RunFolderError, match="no bundle"):
        write_bundle(bundle(), folder)
    assert (folder / "mine.txt").read_text() == "precious"
    (folder / "mine.txt").unlink()
    folder.rmdir()
    for speedup in (2.0, 3.0):
        write_bundle(bundle(passed(speedup)), folder)
    assert read_bundle(folder).verdict.speedup == 3.0


@pytest.fixture
def judge_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Verdict, Verdict], tuple[int, list[JudgeSettings]]]:
    """Writes a bundle with the first verdict and rejudges it where the second is what comes out."""

    def judge_again(recorded: Verdict, here: Verdict) -> tuple[int, list[JudgeSettings]]:
        seen: list[JudgeSettings] = []

        async def one_verdict(
            problem: Problem, candidate: Candidate, *, settings: JudgeSettings
        ) -> tuple[Verdict, bytes | None]:
            assert (problem, candidate) == (PROBLEM, CANDIDATE)
            seen.append(settings)
            return here, None

        monkeypatch.setattr(rejudge, "one_verdict", one_verdict)
        write_bundle(bundle(recorded), folder)
        return cli.main(["rejudge", str(folder)]), seen

    return judge_again


@pytest.mark.parametrize(
    ("recorded", "here", "code", "words"),
    [
        (passed(2.0), passed(2.1), 0, "agrees with the record"),
        (passed(2.0), passed(2.3), 3, "differs: speedup: 2.00x (1.90 to 2.10) on record, 2.30x"),
        (passed(2.0), passed(1.5), 3, "nothing in common"),
        (passed(2.0), passed(9.0, gpu="NVIDIA L4"), 0, "against eager on NVIDIA L4 here: not compared"),
        (passed(2.0), passed(1.1, against="compile"), 0, "against compile on NVIDIA H200 here: not compared"),
        (passed(2.0), passed(), 0, "2.00x (1.90 to 2.10) on record, not timed here"),
        (passed(), passed(), 0, "not timed, neither on record nor here"),
        (passed(2.0), replace(passed(2.0), plan_hash="other"), 0, "note: plan: h on record, other here"),
        (passed(2.0), failed(Status.WRONG_VALUES), 3, "differs: status: passed on record, wrong_values here"),
        (passed(2.0), failed(Status.UNVERIFIED), 3, "could not be verified here, which is no proof against it"),
        (failed(Status.TIMEOUT), failed(Status.TIMEOUT), 3, "agrees with the record: timeout"),
        (failed(Status.TIMEOUT), passed(2.0), 3, "differs: status: timeout on record, passed here"),
    ],
)
def test_a_verdict_is_compared_with_the_one_on_record(
    judge_again: Callable[[Verdict, Verdict], tuple[int, list[JudgeSettings]]],
    capsys: pytest.CaptureFixture[str],
    recorded: Verdict,
    here: Verdict,
    code: int,
    words: str,
) -> None:
    found, (settings,) = judge_again(recorded, here)
    shown = capsys.readouterr().out
    assert (found, words in shown) == (code, True), shown
    assert "\x1b" not in shown, "what a candidate wrote does not reach the terminal as it is"
    assert (settings.num_seeds, settings.racing, settings.baselines) == (3, False, ("eager",))


def test_a_damaged_bundle_is_the_users_and_names_the_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_bundle(bundle(), folder)
    (folder / "problem.py").write_text("class Model: ...")
    assert cli.main(["rejudge", str(folder)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "problem.py" in line
    assert cli.main(["rejudge", str(folder / "nothing")]) == 2


def test_a_bundle_on_another_problem_than_ours_is_refused_before_it_runs(
    judge_again: Callable[[Verdict, Verdict], tuple[int, list[JudgeSettings]]],
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    judge_again(passed(), passed())
    assert "terms: tolerance" not in capsys.readouterr().out  # smaller than usual
    mine = tmp_path / "mine.py"
    mine.write_text("class Model: ...\ndef get_inputs(): return []\ndef get_init_inputs(): return []\n")
    assert cli.main(["rejudge", str(folder), "--problem", str(mine)]) == 2
    assert "problem.py: is not" in capsys.readouterr().err


def test_terms_that_ask_less_than_usual_are_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def one_verdict(*_: object, settings: JudgeSettings) -> tuple[Verdict, bytes | None]:
        return passed(), None

    monkeypatch.setattr(rejudge, "one_verdict", one_verdict)
    whole = bundle()
    loose = replace(
        whole, problem=replace(PROBLEM, tolerance=Tolerance(rms=1e9)), settings={**whole.settings, "policy": "any"}
    )
    write_bundle(loose, folder)
    assert cli.main(["rejudge", str(folder)]) == 0
    shown = capsys.readouterr().out
    assert "terms: tolerance.rms is 1e+09; 8 is usual" in shown and "terms: policy is any; triton is usual" in shown


@pytest.mark.parametrize(("num_seeds", "told"), [(3 + CONFIRM_EXTRA_SEEDS, False), (2, True)])
def test_the_seeds_that_a_confirmation_takes_more_are_no_loose_terms(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    num_seeds: int,
    told: bool,
) -> None:
    async def one_verdict(*_: object, settings: JudgeSettings) -> tuple[Verdict, bytes | None]:
        return passed(), None

    monkeypatch.setattr(rejudge, "one_verdict", one_verdict)
    whole = bundle()
    write_bundle(replace(whole, settings={**whole.settings, "num_seeds": num_seeds}), folder)
    assert cli.main(["rejudge", str(folder)]) == 0
    assert ("terms: num_seeds" in capsys.readouterr().out) is told


def test_a_verdict_that_cannot_be_compared_is_a_damaged_bundle(folder: Path) -> None:
    told = passed(2.0)
    assert told.performance is not None
    forged = replace(told, performance=replace(told.performance, conditions="\x1b[2J"))  # type: ignore[arg-type]
    write_bundle(bundle(forged), folder)
    assert cli.main(["rejudge", str(folder)]) == 2


def test_json_holds_both_verdicts(
    judge_again: Callable[[Verdict, Verdict], tuple[int, list[JudgeSettings]]],
    folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    judge_again(passed(2.0), passed(2.3))
    capsys.readouterr()
    assert cli.main(["rejudge", str(folder), "--json"]) == 3
    told = json.loads(capsys.readouterr().out)
    assert (told["agrees"], len(told["differences"])) == (False, 1)
    assert Verdict.from_json(told["here"]).speedup == 2.3
