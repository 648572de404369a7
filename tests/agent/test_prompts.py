"""Prompts: what each operator says, what gives way when there is no room, and templates that are refused."""

from __future__ import annotations

import ast
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.engine_config import EngineConfig
from agent.prompts import (
    NAMES,
    Limit,
    PromptError,
    PromptTooLong,
    PromptWriter,
    clip_feedback,
    fill,
    in_characters,
    load_prompt_writer,
    read_training_template,
    strip_comments,
    strip_docstrings,
)
from agent.sampler_config import HttpSamplerConfig, TransformersSamplerConfig
from agent.sampling import open_prompt_writer
from agent.tokens import Tokens
from sandbox.types import (
    Candidate,
    Correctness,
    Failure,
    Observation,
    Operator,
    Performance,
    Problem,
    Proposal,
    Status,
    Verdict,
)

ROOMY = 100_000
PROBLEM = Problem(id="relu", source="import torch\n\n\nclass Model:\n    text = '{{feedback}} {}'\n", origin="test")
ATTEMPT = '''"""Module words."""

# a remark
import torch  # another


class ModelNew:
    """What it is,
    at length."""

    hash_in_text = "# not a remark"

    def forward(self, x):
        """Only words."""

    def other(self, x):  # ümlaut
        # alone
        return x
'''


def observation(source: str = ATTEMPT, *, speedup: float | None = None, passed: bool = False) -> Observation:
    candidate = Candidate(problem_id=PROBLEM.id, source=source, operator=Operator.DRAFT)
    if not passed:
        failure = Failure(error_class="CompilationError", message="no")
        verdict = Verdict(
            candidate_id=candidate.id, status=Status.COMPILE_ERROR, failure=failure, feedback="tl.tanh: no such name"
        )
        return Observation(candidate=candidate, verdict=verdict)
    correctness = Correctness(
        checked_by="replay", seeds=(1,), weights="none", max_error_ratio=0.1, rms_error_ratio=0.1, conditions={}
    )
    performance = None
    if speedup is not None:
        performance = Performance(
            runtime_us=20.0,
            baseline_us={"eager": 20.0 * speedup},
            against="eager",
            speedup=speedup,
            speedup_low=speedup - 0.1,
            speedup_high=speedup + 0.1,
            repetitions=9,
        )
    verdict = Verdict(
        candidate_id=candidate.id,
        status=Status.PASSED,
        correctness=correctness,
        plan_hash="h",
        performance=performance,
    )
    return Observation(candidate=candidate, verdict=verdict)


def proposal(operator: Operator, *parents: Observation) -> Proposal:
    return Proposal(id="p", operator=operator, parents=tuple(parent.candidate.id for parent in parents))


def repair_prompt(writer: PromptWriter, parent: Observation) -> str:
    return writer.render(PROBLEM, proposal(Operator.REPAIR, parent), (parent,))


def test_a_draft_holds_the_problem_untouched_and_no_placeholder() -> None:
    prompt = load_prompt_writer(None, limit=in_characters(ROOMY)).render(PROBLEM, proposal(Operator.DRAFT), ())
    assert PROBLEM.source in prompt
    assert "ModelNew" in prompt
    assert "{{problem}}" not in prompt


def test_a_repair_holds_task_stripped_attempt_and_feedback_and_wants_the_whole_file() -> None:
    writer = load_prompt_writer(None, limit=in_characters(ROOMY))
    prompt = repair_prompt(writer, observation())
    assert prompt.startswith(writer.render(PROBLEM, proposal(Operator.DRAFT), ()))
    assert strip_comments(ATTEMPT).strip() in prompt
    assert "# a remark" not in prompt
    assert "tl.tanh: no such name" in prompt
    assert "whole corrected file" in prompt


def test_an_improvement_states_the_figures_or_that_there_are_none() -> None:
    writer = load_prompt_writer(None, limit=in_characters(ROOMY))
    timed, untimed = observation(passed=True, speedup=1.5), observation(passed=True)
    prompt = writer.render(PROBLEM, proposal(Operator.IMPROVE, timed), (timed,))
    assert "20.0 us" in prompt
    assert "eager 30.0 us" in prompt
    assert "speedup of 1.50 (95 % interval 1.40 to 1.60)" in prompt
    prompt = writer.render(PROBLEM, proposal(Operator.IMPROVE, untimed), (untimed,))
    assert "not timed" in prompt
    assert "speedup" not in prompt


def test_feedback_is_at_most_250_tokens() -> None:
    limit = in_characters(ROOMY)
    assert clip_feedback(" short\n", limit=limit) == "short"
    assert len(clip_feedback("x" * 5000, limit=limit)) == 800


def test_the_nearest_parent_alone_is_shown() -> None:
    near, far = observation("class ModelNew: near = 1\n"), observation("class ModelNew: far = 1\n")
    writer = load_prompt_writer(None, limit=in_characters(ROOMY))
    prompt = writer.render(PROBLEM, proposal(Operator.REPAIR, near, far), (near, far))
    assert "near = 1" in prompt
    assert "far = 1" not in prompt


def test_operators_without_a_template_or_a_parent_are_refused() -> None:
    writer = load_prompt_writer(None, limit=in_characters(ROOMY))
    with pytest.raises(PromptError, match="no template for tune"):
        writer.render(PROBLEM, proposal(Operator.TUNE, observation()), (observation(),))
    with pytest.raises(PromptError, match="needs the parent"):
        writer.render(PROBLEM, proposal(Operator.REPAIR, observation()), ())


def test_without_room_docstrings_go_first_then_the_head_then_it_is_an_error() -> None:
    parent = observation()
    whole = repair_prompt(load_prompt_writer(None, limit=in_characters(ROOMY)), parent)
    assert "Module words" in whole
    shorter = repair_prompt(load_prompt_writer(None, limit=in_characters(len(whole) - 1)), parent)
    assert "Module words" not in shorter
    assert "import torch" in shorter.split("An earlier attempt:")[1]
    tail = repair_prompt(load_prompt_writer(None, limit=in_characters(len(shorter) - 1)), parent)
    assert len(tail) <= len(shorter) - 1
    attempt = tail.split("An earlier attempt:")[1]
    assert re.search(r"# \(\d+ lines before this one are left out\)", attempt)
    assert "import torch" not in attempt
    assert "        return x\n" in attempt
    assert PROBLEM.source in tail
    with pytest.raises(PromptTooLong, match=r"problem relu: .* limit is 400"):
        repair_prompt(load_prompt_writer(None, limit=in_characters(400)), parent)
    with pytest.raises(PromptTooLong):
        load_prompt_writer(None, limit=in_characters(400)).render(PROBLEM, proposal(Operator.DRAFT), ())


@given(limit_characters=st.integers(min_value=1200, max_value=2600))
@settings(max_examples=40, deadline=None)
def test_no_prompt_is_longer_than_its_limit(limit_characters: int) -> None:
    writer = load_prompt_writer(None, limit=in_characters(limit_characters))
    try:
        assert len(repair_prompt(writer, observation())) <= limit_characters
    except PromptTooLong:
        assert limit_characters < 1900


def test_stripping_keeps_meaning_and_removes_every_remark() -> None:
    stripped = strip_comments(ATTEMPT)
    assert ast.dump(ast.parse(stripped)) == ast.dump(ast.parse(ATTEMPT))
    assert stripped.count("#") == 1
    bare = strip_docstrings(stripped)
    assert "words" not in bare
    assert "at length" not in bare
    ast.parse(bare)


def test_docstrings_go_where_a_carriage_return_ends_a_line() -> None:
    source = 'def f():\r    """a\r  b"""\r    return "é"\n'
    assert strip_docstrings(source) == 'def f():\r    ""\r    return "é"\n'


@pytest.mark.parametrize("source", ["x = (  # open", "def f(:\n  # a\n", "if x:\n# a\n", "\x00 # a", "\ud800 # a", ""])
def test_text_that_is_no_program_never_raises(source: str) -> None:
    assert strip_docstrings(strip_comments(source)) is not None


def test_a_comment_on_which_a_statement_depends_stays() -> None:
    source = "x = 1\nif x:\n    pass\n"
    assert strip_comments(source) == source
    assert strip_comments("x = '''\n# inside\n'''\n") == "x = '''\n# inside\n'''\n"


def test_replacement_is_one_pass() -> None:
    assert fill("{{a}} {{b}}", {"a": "{{b}}", "b": "2"}) == "{{b}} 2"


@pytest.mark.parametrize(
    ("template", "says"), [("{{problem}} {{prblem}}", "undefined name.* prblem"), ("nothing", "never uses problem")]
)
def test_undefined_and_unused_names_are_errors(template: str, says: str) -> None:
    with pytest.raises(PromptError, match=says):
        PromptWriter({Operator.DRAFT: template}, training_template=None, limit=in_characters(ROOMY))


def test_every_operator_with_names_has_a_template_file() -> None:
    load_prompt_writer(None, limit=in_characters(ROOMY))
    assert set(NAMES) == {Operator.DRAFT, Operator.REPAIR, Operator.IMPROVE, Operator.MERGE}


# The shape of the checkpoint's own file: a literal with a leading newline, beside code that must never run.
CHECKPOINT_FILE = '''
raise SystemExit("executed")
PROMPT_TEMPLATE = """
<|begin_of_text|>Rewrite this:
```
{}
```
Now:
"""
'''
SHIPPED = "\n<|begin_of_text|>Rewrite this:\n```\n{}\n```\nNow:\n"


def checkpoint(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text, encoding="utf-8")
    return folder


def test_a_checkpoints_own_template_is_used_to_the_character(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path, kernelllm__py=CHECKPOINT_FILE)
    assert read_training_template(folder) == SHIPPED
    assert read_training_template(folder / "kernelllm.py") == SHIPPED
    writer = load_prompt_writer(folder, limit=in_characters(ROOMY))
    draft = writer.render(PROBLEM, proposal(Operator.DRAFT), ())
    assert draft == SHIPPED.replace("{}", PROBLEM.source.strip("\n"))
    repair = repair_prompt(writer, observation())
    assert repair.startswith(draft)
    assert "tl.tanh: no such name" in repair


def test_a_text_template_is_used_and_goes_before_the_module(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path, kernelllm__py=CHECKPOINT_FILE, prompt_template__txt="Do: {}\r\n")
    assert read_training_template(folder) == "Do: {}\r\n"


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({}, r"holds neither prompt_template\.txt nor kernelllm\.py"),
        ({"prompt_template__txt": "no slot"}, "exactly one {} .* has 0"),
        ({"prompt_template__txt": "{} {}"}, "exactly one {} .* has 2"),
        ({"kernelllm__py": "x = 1\n"}, "does not set PROMPT_TEMPLATE"),
        ({"kernelllm__py": "PROMPT_TEMPLATE = f'{x} {{}}'\n"}, "not a plain string"),
        ({"kernelllm__py": "PROMPT_TEMPLATE: str\n"}, "not a plain string"),
        ({"kernelllm__py": "def (\n"}, "not valid Python"),
    ],
)
def test_an_unusable_checkpoint_is_refused_in_one_line(tmp_path: Path, files: dict[str, Any], says: str) -> None:
    with pytest.raises(PromptError, match=says) as caught:
        load_prompt_writer(checkpoint(tmp_path, **files), limit=in_characters(ROOMY))
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_a_missing_template_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(PromptError, match=r"nowhere\.txt: cannot be read"):
        read_training_template(tmp_path / "nowhere.txt")


def test_a_merge_shows_both_parents_and_the_figures_of_the_faster() -> None:
    near = observation("class ModelNew: near = 1\n", passed=True, speedup=1.5)
    far = observation('class ModelNew:\n    """Words."""\n    far = 1  # remark\n', passed=True, speedup=1.2)
    writer = load_prompt_writer(None, limit=in_characters(ROOMY))
    prompt = writer.render(PROBLEM, proposal(Operator.MERGE, near, far), (near, far))
    assert prompt.index("near = 1") < prompt.index("speedup of 1.50") < prompt.index("far = 1")
    assert "remark" not in prompt
    assert "Words." not in prompt


def test_templates_come_from_the_configuration_then_the_checkpoint_then_the_package(tmp_path: Path) -> None:
    held = checkpoint(tmp_path, prompt_template__txt="Trained on: {}\n")
    (held / "repair.txt").write_text("{{task}}checkpoint {{attempt}} {{feedback}}")
    parent, roomy = observation(), in_characters(ROOMY)
    writer = load_prompt_writer(None, limit=roomy, checkpoint=held)
    assert writer.render(PROBLEM, proposal(Operator.DRAFT), ()).startswith("Trained on: import torch")
    assert repair_prompt(writer, parent).startswith("Trained on: import torch")
    assert "checkpoint import torch" not in repair_prompt(writer, parent)
    assert "\ncheckpoint " in repair_prompt(writer, parent)
    improvement = writer.render(PROBLEM, proposal(Operator.IMPROVE, parent), (observation(passed=True),))
    assert "gives right answers" in improvement  # the package's

    named = tmp_path / "named"
    named.mkdir()
    (named / "repair.txt").write_text("{{task}}named {{attempt}} {{feedback}}")
    both = load_prompt_writer(None, limit=roomy, checkpoint=held, operator_templates=named)
    assert "\nnamed " in repair_prompt(both, parent)
    assert both.render(PROBLEM, proposal(Operator.DRAFT), ()).startswith("Trained on: ")
    (named / "draft.txt").write_text("Named: {{problem}}")
    both = load_prompt_writer(None, limit=roomy, checkpoint=held, operator_templates=named)
    assert both.render(PROBLEM, proposal(Operator.DRAFT), ()).startswith("Named: ")
    (tmp_path / "own.txt").write_text("Own: {}")
    own = load_prompt_writer(tmp_path / "own.txt", limit=roomy, checkpoint=held)
    assert own.render(PROBLEM, proposal(Operator.DRAFT), ()).startswith("Own: ")


def test_a_folder_of_templates_without_any_and_a_template_without_its_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PromptError, match=r"holds none of .*repair\.txt"):
        load_prompt_writer(None, limit=in_characters(ROOMY), operator_templates=tmp_path)
    (tmp_path / "repair.txt").write_text("{{task}} {{attempt}}")
    with pytest.raises(PromptError, match=r"repair\.txt: never uses feedback"):
        load_prompt_writer(None, limit=in_characters(ROOMY), operator_templates=tmp_path)


def test_where_tokens_can_be_counted_they_are_what_limits(tiny_checkpoint: Path) -> None:
    count = Tokens(tiny_checkpoint, bos="as_shipped").count
    parent = observation(ATTEMPT + "\n".join(f"x{n} = {n}" for n in range(300)))
    for most in (1300, 1600, 2000):
        prompt = repair_prompt(load_prompt_writer(None, limit=Limit(most=most, length=count, unit="tokens")), parent)
        assert most - 40 < count(prompt) <= most  # a line more would not have fitted
        assert "lines before this one are left out" in prompt
        assert "x299 = 299" in prompt
    with pytest.raises(PromptTooLong, match=r"tokens at the least, and the limit is 300"):
        repair_prompt(load_prompt_writer(None, limit=Limit(most=300, length=count, unit="tokens")), parent)
    clipped = clip_feedback("import torch " * 500, limit=Limit(most=9999, length=count, unit="tokens"))
    assert 240 < count(clipped) <= 250


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"max_tokens": 412}, r"limit is 100; lower sampler\.max_tokens \(412\), .* context of 512$"),
        (
            {"max_tokens": 12, "prompt_tokens": 50},
            r"limit is 50; raise sampler\.prompt_tokens, to 500 at most .* context of 512$",
        ),
        ({"max_tokens": 412, "prompt_tokens": 100}, r"max_tokens \(412\) and raise sampler\.prompt_tokens as much"),
    ],
)
def test_a_prompt_that_is_too_long_names_the_key_to_change_and_the_limits(
    tiny_checkpoint: Path, keys: dict[str, Any], says: str
) -> None:
    section = TransformersSamplerConfig(kind="transformers", model=str(tiny_checkpoint), **keys)
    problem = replace(PROBLEM, source="x = 1\n" * 200)
    with pytest.raises(PromptTooLong, match=says):
        open_prompt_writer(section, engine=EngineConfig()).render(problem, proposal(Operator.DRAFT), ())
    with pytest.raises(PromptTooLong, match=r"limit is 400; raise sampler\.prompt_characters"):
        load_prompt_writer(None, limit=in_characters(400)).render(problem, proposal(Operator.DRAFT), ())


def test_what_goes_to_a_server_is_counted_in_tokens_where_tokeniser_and_context_are_known(
    tiny_checkpoint: Path,
) -> None:
    server: dict[str, Any] = {"kind": "http", "base_url": "http://localhost:1", "model": "m", "max_tokens": 100}
    counted = HttpSamplerConfig(**server, tokenizer=str(tiny_checkpoint), context_tokens=1400, prompt_characters=100)
    count = Tokens(tiny_checkpoint, bos="as_shipped").count
    parent = observation(ATTEMPT + "\n".join(f"x{n} = {n}" for n in range(300)))
    prompt = repair_prompt(open_prompt_writer(counted, engine=EngineConfig()), parent)
    assert 1300 - 40 < count(prompt) <= 1300
    long = replace(PROBLEM, source="x = 1\n" * 900)
    with pytest.raises(PromptTooLong, match=r"tokens at the least, and the limit is 1300; .* raise sampler\.context_t"):
        open_prompt_writer(counted, engine=EngineConfig()).render(long, proposal(Operator.DRAFT), ())
    for tokenizer in (str(tiny_checkpoint), None):
        section = HttpSamplerConfig(**server, tokenizer=tokenizer, prompt_characters=400)
        with pytest.raises(PromptTooLong, match=r"characters at the least, and the limit is 400"):
            open_prompt_writer(section, engine=EngineConfig()).render(long, proposal(Operator.DRAFT), ())
