"""Whatever a child sends, the trusted side answers with PlanError, WireError or a verdict, soon and in bounded memory.

Plans and messages of honest programs are changed at random. In CI the examples are few and always the same;
`--hypothesis-profile=deep` looks for new ones.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox import wire
from sandbox.execute import Arena, initialise, run_steps, weights_by_name
from sandbox.interpreted import read_interpreted
from sandbox.judge import InterpretJudge, interpret_request, precheck, too_large
from sandbox.output_form import unfit
from sandbox.plan import Plan, PlanError, decode, encode, flat_steps, num_alternatives, plan_hash, resolve
from sandbox.plan_check import dataflow, first_choices, tree_tensors
from sandbox.problems import load_problems
from sandbox.replay import storage_name
from sandbox.tracer import Traced, Tracer, _read
from sandbox.types import Candidate, Operator, Problem, Status, Verdict
from sandbox.zygote import ChildOutcome
from tests.judge_settings import LIMITS, SECRET, judge_settings
from tests.sandbox.plan_mutation import as_bytes, corrupted, mutated

CORPUS = Path(__file__).parent.parent / "adversarial"
PROGRAMS = (
    "autotuned_split_k", "weights_fused_when_constructed", "nested_outputs", "inductor_layer_norm",
    "casts_on_the_host", "mean_by_atomics", "scalar_arguments", "empty_tensors", "host_descriptors_padded_with_nan",
)  # fmt: skip
MAX_SECONDS = 2.0
SETTINGS = judge_settings(
    num_seeds=1,
    trace_limits=LIMITS,
    interpret_limits=dataclasses.replace(LIMITS, wall_seconds=1.5, memory_bytes=4 << 30),
    interpret_max_bytes=16 << 20,
    interpret_max_programs=200,
)
# A seed for changes, for they should be spread evenly, which hypothesis' own choices are not.
RANDOM = st.integers(0, 2**32).map(Random)
FEW = settings(max_examples=max(30, settings().max_examples // 4))  # for what starts a process an example


@dataclasses.dataclass(frozen=True, repr=False)
class Sample:
    """An honest program's trace; `body` is its plan's JSON with the cubins cut short, as `raw` has it too."""

    problem: Problem
    candidate: Candidate
    traced: Traced
    body: Any
    raw: bytes


def _sample(name: str, tracer: Tracer) -> Sample:
    source = (CORPUS / "honest" / f"{name}.py").read_text()
    stem = source.splitlines()[0].removeprefix("# problem: ").strip()
    (problem,) = load_problems(CORPUS / "problems" / f"{stem}.py")
    candidate = Candidate(problem_id=problem.id, source=source, operator=Operator.DRAFT)
    traced = tracer.trace(problem, candidate)
    assert traced.plan is not None, traced.failure
    body = json.loads(traced.plan)
    for kernel in body["kernels"]:
        kernel["cubin"] = base64.b64encode(base64.b64decode(kernel["cubin"])[:64]).decode()
    return Sample(problem, candidate, traced, body, json.dumps(body).encode())


@pytest.fixture(scope="module")
def samples() -> Iterator[tuple[Sample, ...]]:
    with Tracer(SETTINGS) as tracer:
        yield tuple(_sample(name, tracer) for name in PROGRAMS)


@pytest.fixture(scope="module")
def judge() -> Iterator[InterpretJudge]:
    judge = InterpretJudge(SETTINGS, secret=SECRET)
    yield judge
    judge.close()


@contextmanager
def bounded(max_bytes: int) -> Iterator[None]:
    """Fails what takes longer than `MAX_SECONDS` of the processor; what takes more memory gets none."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + max_bytes, before[1]))
    start = time.process_time()
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
    assert time.process_time() - start < MAX_SECONDS


def decoded(raw: bytes) -> Plan | None:
    try:
        return decode(raw)
    except PlanError as error:
        assert len(str(error)) < 2_000 and "\n" not in str(error)
        return None


def changed_plan(samples: tuple[Sample, ...], random: Random) -> tuple[Sample, bytes, Plan | None]:
    sample = samples[random.randrange(len(samples))]
    raw = corrupted(sample.raw, random) if random.randrange(8) == 0 else as_bytes(mutated(sample.body, random))
    with bounded(1 << 30):
        return sample, raw, decoded(raw)


@given(raw=st.binary(max_size=2_000))
def test_bytes_are_no_plan(raw: bytes) -> None:
    assert decoded(raw) is None


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=8), inner, max_size=6),
    max_leaves=12,
)


@FEW
@given(fields=st.dictionaries(st.sampled_from(sorted(Plan.__slots__)), _JSON))
def test_any_json_under_a_plans_names_is_no_plan_or_a_valid_one(fields: dict[str, Any]) -> None:
    blank: dict[str, Any] = {name: [] for name in Plan.__slots__}
    if (plan := decoded(as_bytes({**blank, **fields}))) is not None:
        dataflow(plan)


@given(random=RANDOM)
def test_changed_plans_are_refused_or_bear_every_question(samples: tuple[Sample, ...], random: Random) -> None:
    sample, _, plan = changed_plan(samples, random)
    if plan is None:
        return
    spec = sample.traced.spec
    assert spec is not None
    with bounded(1 << 30):
        assert plan_hash(decode(encode(plan))) == plan_hash(plan)
        dataflow(plan)
        dataflow(plan, [[] for step in first_choices(plan) if not hasattr(step, "op")])
        precheck(plan, SETTINGS)
        unfit(plan, spec)
        too_large(plan, SETTINGS)
        tree_tensors(plan.outputs)
        weights_by_name(plan, spec["weights"])
        for storage in range(len(plan.storages)):
            storage_name(plan, storage)


def run_through(plan: Plan) -> None:
    """As in the replay worker, on the CPU, with kernels that do nothing."""
    initial, _ = initialise(plan, seed=1, weights={})
    arena = Arena(plan, device=torch.device("cpu"), poison=255, guard_bytes=512)
    arena.load(initial)
    run_steps(flat_steps(plan), arena, lambda step: None)
    for _, index in tree_tensors(plan.outputs):
        arena.tensor(index)


def chosen_first(plan: Plan) -> Plan:
    return resolve(plan, (0,) * len(num_alternatives(plan)))


@pytest.fixture(scope="module")
def warm(samples: tuple[Sample, ...]) -> None:
    """Torch has loaded what it loads at an operator's first call: seconds on a slow machine, and no plan's doing."""
    for sample in samples:
        run_through(chosen_first(decode(sample.raw)))


@given(random=RANDOM)
def test_changed_plans_run_or_fail_by_torchs_own_errors(
    samples: tuple[Sample, ...], warm: None, random: Random
) -> None:
    _, _, plan = changed_plan(samples, random)
    if plan is None or too_large(plan, SETTINGS) is not None:
        return
    plan = chosen_first(plan)
    # What `runner.py` takes for the candidate's fault.
    faults = (PlanError, RuntimeError, TypeError, ValueError, IndexError, OverflowError)
    with bounded(2 << 30), suppress(*faults):
        run_through(plan)


def test_a_long_text_does_not_make_a_long_error(samples: tuple[Sample, ...]) -> None:
    body = json.loads(samples[0].raw)
    body["storages"][0][1] = "a" * 5_000
    assert decoded(as_bytes(body)) is None


@FEW
@given(random=RANDOM)
def test_changed_plans_get_a_verdict(samples: tuple[Sample, ...], judge: InterpretJudge, random: Random) -> None:
    sample, raw, plan = changed_plan(samples, random)
    if plan is None:
        return
    traced = dataclasses.replace(sample.traced, plan=raw, plan_hash=plan_hash(plan))
    verdict = judge.judge(sample.problem, sample.candidate, traced)
    assert Verdict.from_json(verdict.to_json()) == verdict


@given(raw=st.binary(max_size=300), head=st.booleans())
def test_bytes_are_no_message(raw: bytes, head: bool) -> None:
    with pytest.raises(wire.WireError):
        wire.unpack(b"KLW1" + len(raw).to_bytes(8, "big") + raw if head else raw)


def outcome(result: bytes) -> ChildOutcome:
    return ChildOutcome(
        result=result, exit_code=0, signal=None, timed_out=False, cpu_seconds=0.0, max_rss_bytes=0, wall_seconds=0.0,
        out_of_memory=False,
    )  # fmt: skip


def changed_message(raw: bytes, random: Random) -> bytes:
    """A message with bytes spoilt, or with another header that is framed as it should be."""
    if random.randrange(3) == 0:
        return corrupted(raw, random)
    length = int.from_bytes(raw[4:12], "big")
    header = as_bytes(mutated(json.loads(raw[12 : 12 + length]), random))
    return raw[:4] + len(header).to_bytes(8, "big") + header + raw[12 + length :]


@given(random=RANDOM)
def test_changed_answers_of_a_trace_are_refused_or_read(samples: tuple[Sample, ...], random: Random) -> None:
    plan = samples[0].raw
    failure = {"error_class": "E", "message": "m", "line_number": 3, "source_line": "x"}
    honest = wire.pack({"status": None, "failure": None}, [plan])
    failed = wire.pack({"status": "compile_error", "failure": failure})
    with bounded(1 << 30):
        status, told, left = _read(outcome(changed_message(random.choice((honest, failed)), random)))
    assert (left is None) == (status is not None) == (told is not None)
    assert status not in (Status.PASSED, Status.UNVERIFIED)


@dataclasses.dataclass(frozen=True, repr=False)
class Interpreted:
    """A plan, its cases and what the interpret child answers."""

    plan: Plan
    opened: Any
    result: bytes


@pytest.fixture(scope="module")
def interpreted(samples: tuple[Sample, ...], judge: InterpretJudge) -> Interpreted:
    sample = next(s for s in samples if s.problem.id.endswith("nested_outputs"))
    assert sample.traced.spec is not None
    opened = judge._opened(sample.problem, sample.traced.spec, vary=frozenset(), precision="ieee")
    usual = judge._settings
    judge._settings = dataclasses.replace(usual, interpret_limits=LIMITS)  # nothing is fuzzed yet that could hang
    answer = judge._run(interpret_request(sample.raw, opened.cases, others=opened.others))
    judge._settings = usual
    assert answer.result is not None
    return Interpreted(decode(sample.raw), opened, answer.result)


@given(random=RANDOM)
def test_changed_answers_of_an_interpreter_are_refused_or_read(interpreted: Interpreted, random: Random) -> None:
    plan, opened = interpreted.plan, interpreted.opened
    raw = changed_message(interpreted.result, random)
    with bounded(1 << 30):
        status, failure, correctness, writes = read_interpreted(
            outcome(raw), opened.cases, plan, following=opened.following
        )
    assert (status is None) == (failure is None)
    if status is None:
        assert correctness is not None and writes is not None
        dataflow(plan, writes)
