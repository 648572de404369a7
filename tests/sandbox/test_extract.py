"""The program is found in answers with and without fences, and an answer that was cut off is known as such."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from sandbox.extract import Note, extract, with_model_alias

PROGRAM = "import torch\nimport torch.nn as nn\n\n\nclass ModelNew(nn.Module):\n    pass\n"
SNIPPET = "pip install triton\n"
RECORDED = Path(__file__).parents[2] / "configs" / "completions" / "recorded.jsonl"


@pytest.mark.parametrize(
    ("text", "notes"),
    [
        (f"```\n{PROGRAM}```", ()),
        (f"```python\n{PROGRAM}```\nThis kernel fuses everything.", ()),
        (f"Sure! Here it is:\n\n```py\n{PROGRAM}\n```", ()),
        (f"Here: ```python\n{PROGRAM}```", ()),
        (f"```\r\n{PROGRAM.replace(chr(10), chr(13) + chr(10))}```", ()),
        (PROGRAM, (Note.NO_FENCE,)),
        (f"{PROGRAM}<|eot_id|>", (Note.END_TOKEN_DROPPED, Note.NO_FENCE)),
        (f"The code is:\n\n{PROGRAM}", (Note.NO_FENCE, Note.PROSE_DROPPED)),
        (f"{PROGRAM}```\nThis kernel fuses everything.", (Note.BEFORE_FENCE, Note.UNCLOSED_FENCE)[:1]),
        (f"```bash\n{SNIPPET}```\nand then\n```python\n{PROGRAM}```", (Note.LATER_BLOCK,)),
        (f"<think>maybe\n```python\nx = 1\n```\n</think>\n```python\n{PROGRAM}```", (Note.THINKING_DROPPED,)),
        ("```python\n" + PROGRAM.replace("import", "  import").replace("class", "  class") + "```", None),
    ],
)
def test_the_program_is_found(text: str, notes: tuple[Note, ...] | None) -> None:
    extraction = extract(text, finish_reason="stop")
    if notes is not None:
        assert (extraction.source, extraction.notes) == (PROGRAM, notes)
    assert extraction.source is not None
    assert "class ModelNew" in extraction.source
    assert not extraction.truncated


def test_a_block_indented_as_a_whole_is_moved_to_the_margin() -> None:
    text = (
        "1. Answer:\n   ```python\n"
        + "".join(f"   {line}\n" if line else "\n" for line in PROGRAM.split("\n"))
        + "   ```"
    )
    extraction = extract(text, finish_reason="stop")
    assert (extraction.source, extraction.notes) == (PROGRAM, (Note.DEDENTED,))


def test_backticks_inside_a_docstring_do_not_end_the_block() -> None:
    program = PROGRAM.replace("    pass", '    """Calls ```kernel``` once."""')
    assert extract(f"```python\n{program}```", finish_reason="stop").source == program


@pytest.mark.parametrize(
    ("text", "finish_reason", "source"),
    [
        (f"```python\n{PROGRAM}", "stop", PROGRAM),
        (f"```python\n{PROGRAM}def forward(self, x", "length", f"{PROGRAM}def forward(self, x\n"),
        (f"{PROGRAM}def forward(self, x", "length", f"{PROGRAM}def forward(self, x\n"),
        ("```", "length", None),
        ("<think>Let me see", "length", None),
        ("", "length", None),
    ],
)
def test_an_answer_that_was_cut_off_is_truncated(text: str, finish_reason: str, source: str | None) -> None:
    extraction = extract(text, finish_reason=finish_reason)
    assert (extraction.source, extraction.truncated) == (source, True)


@pytest.mark.parametrize("text", ["", "  \n", "I cannot write this kernel.", "```\n```", "ok"])
def test_an_answer_without_code_has_no_source(text: str) -> None:
    extraction = extract(text, finish_reason="stop")
    assert (extraction.source, extraction.truncated) == (None, False)


def test_a_missing_finish_reason_is_not_a_cut() -> None:
    assert not extract(f"```\n{PROGRAM}```", finish_reason=None).truncated


@pytest.mark.parametrize("base", ["nn.Module", "torch.nn.Module", "Module"])
def test_a_single_module_class_named_new_gets_the_name_the_judge_looks_for(base: str) -> None:
    source = f"class Helper:\n    pass\n\n\nclass SoftmaxNew({base}):\n    pass\n"
    aliased, changed = with_model_alias(source)
    assert changed
    assert aliased == source + "\n\nModelNew = SoftmaxNew\n"
    assert with_model_alias(aliased) == (aliased, False)
    extraction = extract(f"```\n{source}```", finish_reason="stop")
    assert (extraction.source, extraction.notes) == (aliased, (Note.MODEL_ALIASED,))


@pytest.mark.parametrize(
    "source",
    [
        PROGRAM,
        "from nets import Net as ModelNew\n\n\nclass OtherNew(nn.Module):\n    pass\n",
        "class ANew(nn.Module):\n    pass\n\n\nclass BNew(nn.Module):\n    pass\n",
        "class SoftmaxNew:\n    pass\n",
        "class Softmax(nn.Module):\n    pass\n",
        "class SoftmaxNew(nn.Module:\n",
    ],
)
def test_no_name_is_invented_where_it_is_not_certain(source: str) -> None:
    assert with_model_alias(source) == (source, False)


def test_a_class_that_derives_from_a_module_of_the_file_counts_as_one() -> None:
    source = "class Base(nn.Module):\n    pass\n\n\nclass BaseNew(Base):\n    pass\n"
    assert with_model_alias(source)[1]


def test_the_recorded_answers_extract_as_they_claim() -> None:
    lines = [json.loads(line) for line in RECORDED.read_text().splitlines()]
    by_id = {line["id"]: line for line in lines}
    assert len(by_id) == len(lines)
    sources = {line["id"]: extract(line["completion"], finish_reason=line["finish_reason"]) for line in lines}
    for line in lines:
        assert (line["operator"] == "repair") == ("parent" in line)
        assert sources[line["id"]].truncated == (line["finish_reason"] == "length")
        if line["operator"] == "repair":
            assert by_id[line["parent"]]["problem"] == line["problem"]
            assert not sources[line["parent"]].truncated
    # A repair is looked up by its parent's source, so no two answers of a problem may share one.
    assert len({(line["problem"], sources[line["id"]].source) for line in lines}) == len(lines)
    assert {path.stem for path in (RECORDED.parents[1] / "problems").glob("*.py")} == {
        line["problem"] for line in lines
    }


@pytest.mark.parametrize(
    "source",
    [
        f"class ReluNew({'+'.join(['a'] * 800)}):\n    pass\n",
        f"class ReluNew(0x{'f' * 5000}):\n    pass\n",
        "if a:\n    pass\n" + "elif a:\n    pass\n" * 2000,
    ],
    ids=["deep base", "long number as base", "long chain of elif"],
)
def test_code_that_parses_and_is_too_much_for_recursion_is_taken_as_it_is(source: str) -> None:
    assert extract(f"```\n{source}```", finish_reason="stop").source == source


@pytest.mark.parametrize("text", ["```\nno program" + "\n" * 150_000, "``` " * 50_000], ids=["lines", "fences"])
def test_an_answer_that_repeats_itself_to_its_limit_is_read_in_linear_time(text: str) -> None:
    """A search that begins anew at every line, or at every fence, took a minute for this."""
    start = time.process_time()
    extract(text, finish_reason="length")
    assert time.process_time() - start < 5


def test_a_carriage_return_ends_a_line_as_it_does_for_python() -> None:
    source = extract("```\nimport torch\rclass ModelNew: pass\r\n```", finish_reason="stop").source
    assert source == "import torch\nclass ModelNew: pass\n"
