"""Writes the prompt of a proposal from templates, within a bound on its length.

Knows nothing of models or servers, and never executes what it reads: a checkpoint's own template is taken out of its
Python file as a literal.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from agent.figures_text import describe_figures, describe_pair
from agent.plain_text import as_data
from agent.token_estimate import CHARACTERS_PER_TOKEN
from sandbox.spans import Spans
from sandbox.syntax import parse_quietly
from sandbox.types import Observation, Operator, Problem, Proposal

MAX_FEEDBACK_TOKENS = 250
PLACEHOLDER = re.compile(r"\{\{(\w+)\}\}")
# What each operator's template is given; a template uses all of it and nothing else.
NAMES = {
    Operator.DRAFT: frozenset({"problem"}),
    Operator.REPAIR: frozenset({"task", "attempt", "feedback"}),
    Operator.IMPROVE: frozenset({"task", "attempt", "figures"}),
    Operator.MERGE: frozenset({"task", "attempt", "figures", "other"}),
}
CHECKPOINT_SLOT = "{}"
CHECKPOINT_MODULE = "kernelllm.py"
CHECKPOINT_CONSTANT = "PROMPT_TEMPLATE"
CHECKPOINT_TEXT = "prompt_template.txt"


class PromptError(ValueError):
    """A template is not usable, or there is none for what was asked. One line."""


class PromptTooLong(PromptError):
    """What may not be cut (task, feedback, figures) is longer than the bound: this proposal has no prompt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """How long a prompt may be: `most`, in what `length` counts. `per_token` is how many of those a token comes to.

    `remedy` says what the user may change about `most`.
    """

    most: int
    length: Callable[[str], int]
    unit: str
    per_token: float = 1.0
    remedy: str = ""


def in_characters(most: int) -> Limit:
    """Where there is no tokeniser."""
    remedy = "raise sampler.prompt_characters if the model's context has room"
    return Limit(most=most, length=len, unit="characters", per_token=CHARACTERS_PER_TOKEN, remedy=remedy)


class PromptWriter:
    """Renders one prompt a proposal.

    `training_template`, if given, is the text a completion model was trained on, with one `{}` for the problem's
    source. It then takes the place of the draft template, and stands in front of every repair and improvement.

    Feedback is cut to MAX_FEEDBACK_TOKENS. The previous attempt always goes without its comments. If the prompt is then
    longer than `limit`, the attempt loses its docstrings, then whole lines from its head (a line says how many).
    Nothing else is ever cut: if it still does not fit, PromptTooLong.

    `special_names` are those of the model's special tokens. In problem, attempts and feedback they are broken (see
    `plain_text`); in templates they stay. `capability` is that of the GPU which kernels are compiled for, where known.
    """

    def __init__(
        self,
        templates: Mapping[Operator, str],
        *,
        training_template: str | None,
        limit: Limit,
        special_names: Collection[str] = (),
        capability: int | None = None,
    ) -> None:
        """Raises PromptError when a template uses a name it is not given, or leaves one out."""
        self._templates = dict(templates)
        self._training_template = training_template
        self._limit = limit
        self._special_names = frozenset(special_names)
        self._capability = capability
        for operator, template in templates.items():
            _check_names(template, given=NAMES[operator], where=f"the {operator} template")
        if training_template is not None:
            _check_slot(training_template, where="the training template")

    def render(self, problem: Problem, proposal: Proposal, parents: tuple[Observation, ...]) -> str:
        """The prompt for `proposal`. Of `parents`, nearest first, the nearest is shown, and for MERGE the next too.

        Raises PromptError.
        """
        task = self._task(problem)
        if proposal.operator is Operator.DRAFT:
            return self._within(task, problem=problem)
        if proposal.operator not in self._templates:
            raise PromptError(
                f"there is no template for {proposal.operator}; there is one for {_listed(self._templates)}"
            )
        if not parents:
            raise PromptError(f"a prompt for {proposal.operator} needs the parent")
        values = {"task": task}
        if proposal.operator is Operator.MERGE:
            other = self._as_data(parents[1].candidate.source)
            values["other"] = strip_docstrings(strip_comments(other)).strip("\n")
        if proposal.operator is Operator.REPAIR:
            values["feedback"] = clip_feedback(self._as_data(parents[0].verdict.feedback), limit=self._limit)
        else:
            values["figures"] = self._as_data(self._figures(proposal.operator, parents=parents))
        attempt = self._as_data(parents[0].candidate.source)
        return self._with_attempt(attempt, operator=proposal.operator, values=values, problem=problem)

    def _figures(self, operator: Operator, *, parents: tuple[Observation, ...]) -> str:
        if operator is Operator.MERGE:
            return describe_pair(parents[0].verdict, parents[1].verdict, capability=self._capability)
        return describe_figures(parents[0].verdict, capability=self._capability)

    def _task(self, problem: Problem) -> str:
        source = self._as_data(problem.source.strip("\n"))
        if self._training_template is not None:
            return self._training_template.replace(CHECKPOINT_SLOT, source)
        return fill(self._templates[Operator.DRAFT], {"problem": source}).rstrip("\n") + "\n"

    def _as_data(self, text: str) -> str:
        return as_data(text, special_names=self._special_names)

    def _with_attempt(self, source: str, *, operator: Operator, values: Mapping[str, str], problem: Problem) -> str:
        def prompt_with(attempt: str) -> str:
            return fill(self._templates[operator], {**values, "attempt": attempt})

        attempt = strip_comments(source).strip("\n")
        if not self._fits(prompt_with(attempt)):
            attempt = strip_docstrings(attempt).strip("\n")
        if not self._fits(prompt_with(attempt)):
            attempt = keep_tail(attempt, fits=lambda tail: self._fits(prompt_with(tail)))
        return self._within(prompt_with(attempt), problem=problem)

    def _fits(self, prompt: str) -> bool:
        return self._limit.length(prompt) <= self._limit.most

    def _within(self, prompt: str, *, problem: Problem) -> str:
        if not self._fits(prompt):
            remedy = f"; {self._limit.remedy}" if self._limit.remedy else ""
            raise PromptTooLong(
                f"problem {problem.id}: its prompt has {self._limit.length(prompt)} {self._limit.unit} at the least, "
                f"and the limit is {self._limit.most}{remedy}"
            )
        return prompt


def load_prompt_writer(
    template: Path | None,
    *,
    limit: Limit,
    operator_templates: Path | None = None,
    checkpoint: Path | None = None,
    special_names: Collection[str] = (),
    capability: int | None = None,
) -> PromptWriter:
    """A writer with the templates that come first: those named, then the checkpoint's, then this package's.

    `template` is as in `read_training_template`; `operator_templates` is a folder with one or more of `draft.txt`,
    `repair.txt` and `improve.txt`; `checkpoint` is a folder that may hold a training template, `repair.txt` and
    `improve.txt`. Raises PromptError.
    """
    package = resources.files("agent") / "prompts"
    named = {} if operator_templates is None else read_operator_templates(operator_templates)
    if operator_templates is not None and not named:
        raise PromptError(f"{operator_templates}: holds none of {', '.join(f'{operator}.txt' for operator in NAMES)}")
    carried = {} if checkpoint is None else read_operator_templates(checkpoint)
    carried.pop(Operator.DRAFT, None)  # a checkpoint's own is `prompt_template.txt`
    training_template = None if template is None else read_training_template(template)
    if training_template is None and Operator.DRAFT not in named and checkpoint is not None:
        training_template = read_training_template(checkpoint) if carries_template(checkpoint) else None
    templates = {**read_operator_templates(package), **carried, **named}
    return PromptWriter(
        templates,
        training_template=training_template,
        limit=limit,
        special_names=special_names,
        capability=capability,
    )


def read_operator_templates(folder: Path | Traversable) -> dict[Operator, str]:
    """Those of `draft.txt`, `repair.txt` and `improve.txt` that are in `folder`. Raises PromptError."""
    held = {}
    for operator in NAMES:
        path = folder / f"{operator}.txt"
        if path.is_file():
            try:
                held[operator] = path.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise PromptError(f"{path}: cannot be read: {error}") from error
            _check_names(held[operator], given=NAMES[operator], where=str(path))
    return held


def carries_template(checkpoint: Path) -> bool:
    """Whether a folder holds the template that its model was trained on."""
    return any((checkpoint / name).is_file() for name in (CHECKPOINT_TEXT, CHECKPOINT_MODULE))


def read_training_template(path: Path) -> str:
    """The template a model was trained on, as it ships: not a character is changed.

    `path` is a text file with one `{}`, a Python file that sets PROMPT_TEMPLATE to a string, or a checkpoint folder
    that holds `prompt_template.txt` or `kernelllm.py` (the first that is there). Raises PromptError.
    """
    if path.is_dir():
        held = [path / name for name in (CHECKPOINT_TEXT, CHECKPOINT_MODULE) if (path / name).is_file()]
        if not held:
            raise PromptError(f"{path}: holds neither {CHECKPOINT_TEXT} nor {CHECKPOINT_MODULE}")
        path = held[0]
    try:
        text = path.read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PromptError(f"{path}: cannot be read: {error}") from error
    template = _constant_of(text, path=path) if path.suffix == ".py" else text
    _check_slot(template, where=str(path))
    return template


def fill(template: str, values: Mapping[str, str]) -> str:
    """`template` with each `{{name}}` replaced, in one pass: what is put in is never read as a template."""
    return PLACEHOLDER.sub(lambda match: values[match.group(1)], template)


def strip_comments(source: str) -> str:
    """`source` without its comments, and without the lines that held nothing else.

    Text that cannot be tokenised, or that would no longer mean the same, comes back as it is.
    """
    if "#" not in source:
        return source
    lines = source.split("\n")
    emptied: set[int] = set()
    try:
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            if token.type == tokenize.COMMENT:
                row, column = token.start[0] - 1, token.start[1]
                lines[row] = lines[row][:column].rstrip()
                if not lines[row]:
                    emptied.add(row)
    except (tokenize.TokenError, SyntaxError, ValueError):
        return source
    stripped = "\n".join(line for row, line in enumerate(lines) if row not in emptied)
    return stripped if _tree_text(stripped) == _tree_text(source) else source


def strip_docstrings(source: str) -> str:
    """`source` with each docstring made empty, which keeps every body valid.

    What does not parse comes back as it is.
    """
    tree = parse_quietly(source)
    if tree is None:
        return source
    spans = Spans(source)
    stripped = source
    docstrings = [found for node in ast.walk(tree) if (found := _docstring_of(node)) is not None]
    for node in sorted(docstrings, key=spans.start, reverse=True):
        stripped = stripped[: spans.start(node)] + '""' + stripped[spans.end(node) :]
    return stripped if parse_quietly(stripped) is not None else source


def keep_tail(text: str, *, fits: Callable[[str], bool]) -> str:
    """The last whole lines of `text` that fit, under a line that says how many were left out.

    What fits not even without a line of the text comes back as that one line.
    """
    lines = text.split("\n")

    def tail(num_kept: int) -> str:
        return "\n".join([_left_out(len(lines) - num_kept), *lines[len(lines) - num_kept :]])

    kept, too_many = 0, len(lines)
    while too_many - kept > 1:
        middle = (kept + too_many) // 2
        kept, too_many = (middle, too_many) if fits(tail(middle)) else (kept, middle)
    return tail(kept)


def clip_feedback(feedback: str, *, limit: Limit) -> str:
    """At most MAX_FEEDBACK_TOKENS of it, in what `limit` counts."""
    most, text = int(MAX_FEEDBACK_TOKENS * limit.per_token), feedback.strip()
    if limit.length(text) <= most:
        return text
    kept, too_many = 0, len(text)
    while too_many - kept > 1:
        middle = (kept + too_many) // 2
        kept, too_many = (middle, too_many) if limit.length(text[:middle] + " ...") <= most else (kept, middle)
    return text[:kept] + " ..."


def _listed(templates: Mapping[Operator, str]) -> str:
    return ", ".join(sorted(templates))


def _left_out(num_lines: int) -> str:
    return f"# ({num_lines} lines before this one are left out)"


def _check_names(template: str, *, given: frozenset[str], where: str) -> None:
    used = frozenset(PLACEHOLDER.findall(template))
    if undefined := sorted(used - given):
        raise PromptError(f"{where}: undefined name(s) {', '.join(undefined)}; it is given {', '.join(sorted(given))}")
    if unused := sorted(given - used):
        raise PromptError(f"{where}: never uses {', '.join(unused)}")


def _check_slot(template: str, *, where: str) -> None:
    if (num_slots := template.count(CHECKPOINT_SLOT)) != 1:
        raise PromptError(f"{where}: needs exactly one {CHECKPOINT_SLOT} for the problem's source, and has {num_slots}")


def _constant_of(text: str, *, path: Path) -> str:
    tree = parse_quietly(text)
    if tree is None:
        raise PromptError(f"{path}: is not valid Python")
    for statement in reversed(tree.body):  # the last assignment is the one that holds
        targets = statement.targets if isinstance(statement, ast.Assign) else []
        if isinstance(statement, ast.AnnAssign):
            targets = [statement.target]
        if any(isinstance(target, ast.Name) and target.id == CHECKPOINT_CONSTANT for target in targets):
            value = getattr(statement, "value", None)
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                return value.value
            raise PromptError(f"{path}: {CHECKPOINT_CONSTANT} is not a plain string")
    raise PromptError(f"{path}: does not set {CHECKPOINT_CONSTANT}")


def _tree_text(source: str) -> str | None:
    tree = parse_quietly(source)
    if tree is None:
        return None
    try:
        return ast.dump(tree)
    except RecursionError:
        return None


def _docstring_of(node: ast.AST) -> ast.Expr | None:
    if not isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) or not node.body:
        return None
    first = node.body[0]
    if not isinstance(first, ast.Expr) or not isinstance(first.value, ast.Constant):
        return None
    return first if isinstance(first.value.value, str) else None
