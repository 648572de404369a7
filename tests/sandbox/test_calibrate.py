"""Null programs: which pass on a problem's own inputs, what stress does to them, which problems stay inadmissible."""

from __future__ import annotations

import gc
import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch.autograd.profiler import profile

from sandbox.calibrate import MAX_ADDED, admit, calibrate
from sandbox.calibration import Calibration
from sandbox.compare import agrees, compare, expect
from sandbox.judge import InterpretJudge
from sandbox.null_programs import Trial, null_programs
from sandbox.problems import load_problems
from sandbox.reference import Case, InadmissibleProblem, Reference
from sandbox.stress import STRESS, stressed
from sandbox.tracer import ProblemFailed, Tracer
from sandbox.types import Candidate, Operator, Problem, Tolerance

ROOT = Path(__file__).parents[2]
SEEDS = tuple(range(1000, 1003 + MAX_ADDED))
Refer = Callable[..., Reference]


def source(forward: str, *, inputs: str = "torch.rand(64, 100)", init: str = "") -> str:
    lines = [f"        {line}\n" for line in init.splitlines()]
    return (
        "import torch\nimport torch.nn as nn\nimport torch.nn.functional as F\n\n\nclass Model(nn.Module):\n"
        f"    def __init__(self):\n        super().__init__()\n{''.join(lines)}\n"
        f"    def forward(self, *xs):\n        x = xs[0] if xs else None\n        return {forward}\n\n\n"
        f"def get_inputs():\n    return [{inputs}]\n\n\ndef get_init_inputs():\n    return []\n"
    )


@pytest.fixture(scope="module")
def refer(tracer: Tracer) -> Refer:
    """The reference of a module's forward expression."""

    def make(forward: str, *, tolerance: Tolerance | None = None, **parts: str) -> Reference:
        problem = Problem(id="problem", source=source(forward, **parts), origin="test")
        problem = problem if tolerance is None else replace(problem, tolerance=tolerance)
        return Reference(problem, spec=tracer.spec(problem), device=torch.device("cpu"))

    return make


def calibrated(reference: Reference, *, precision: str = "ieee") -> tuple[Calibration, list[Case]]:
    return calibrate(reference, seeds=SEEDS, num_cases=3, precision=precision)


def passing(reference: Reference, case: Case) -> set[str]:
    """The null programs that `case` alone lets through."""
    others = reference.inputs(case.seed + 1, kind=case.kind)
    trial = Trial(
        reference=reference, case=case, own=reference.run(case), other_inputs=lambda: others,
        elsewhere=lambda: reference.run(case, inputs=others),
    )  # fmt: skip
    found = {program.name: program.outputs(trial) for program in null_programs(reference, trial)}
    wanted = [(want, want.answer()) for want in case.expected]
    return {
        name
        for name, outputs in found.items()
        if outputs is not None and all(agrees(output, *wanted[at]) for at, output in outputs.items())
    }


@pytest.mark.parametrize(
    ("forward", "parts", "name"),
    [
        ("F.relu(x)", {}, "a copy of input 0"),
        ("F.leaky_relu(x)", {}, "a copy of input 0"),
        ("F.elu(x)", {}, "a copy of input 0"),
        ("F.hardtanh(x)", {}, "a copy of input 0"),
        ("F.relu(x - 5)", {}, "zeros"),
        ("torch.sign(x + 0.01)", {}, "ones"),
        ("(x > 0)", {}, "ones"),
        ("torch.tanh(x) * 2", {"inputs": "torch.ones(64, 100)"}, "the mean of other answers"),
        ("torch.cumsum(x, 1)", {"inputs": "torch.ones(64, 100)"}, "the reference on other inputs"),
        ("F.relu(x - 9).sum() + 0.5", {}, "halves"),
        ("F.linear(x, self.w, self.b)",
         {"init": "self.w = nn.Parameter(torch.rand(8, 100))\nself.b = nn.Parameter(torch.zeros(8))"}, "weight b"),
        ("F.layer_norm(x, (100,), self.s, self.b)",
         {"init": "self.s = nn.Parameter(torch.ones(100))\nself.b = nn.Parameter(torch.zeros(100))"}, "weight s"),
        ("x - self.mean", {"init": "self.register_buffer('mean', torch.zeros(100))"}, "weight mean"),
        ("torch.exp(torch.clamp(x, -3, 3))", {}, "clamp (operation 1)"),
        ("torch.where(x < 2, x, x * 0.5)", {}, "where (operation 2)"),
        ("xs[0] + F.relu(xs[1] - 2)", {"inputs": "torch.rand(64, 100), torch.rand(64, 100)"}, "input 1"),
    ],
)  # fmt: skip
def test_what_the_own_inputs_let_through_is_rejected_under_stress(
    refer: Refer, forward: str, parts: dict[str, str], name: str
) -> None:
    reference = refer(forward, **parts)
    given = reference.case("given", seed=7, vary=reference.weight_names, precision="ieee")
    assert given is not None and name in passing(reference, given)
    found, cases = calibrated(reference)
    assert found.admitted and name not in found.unseen
    assert any(name not in passing(reference, case) for case in cases)


@pytest.mark.parametrize(
    ("forward", "parts", "name"),
    [
        ("x * 0", {}, "zeros"),
        ("torch.ones_like(x)", {}, "ones"),
        ("torch.softmax(x, 1).sum(1)", {}, "ones"),
        ("x * float('nan')", {}, "NaN"),
        ("torch.full_like(x, -float('inf'))", {}, "-inf"),
        ("F.gelu(F.softmax(x.mean(1, keepdim=True), 1) - 1)", {}, "zeros"),
        ("x.clone()", {}, "a copy of input 0"),
        ("F.dropout(x, 0.5, training=False).reshape(100, 64)", {}, "a copy of input 0"),
        ("torch.arange(640.).reshape(64, 10) * 0.1", {}, "the reference on other inputs"),
        ("F.one_hot(x, 4).float() * 2", {"inputs": "torch.arange(4).repeat(16)"}, "the reference on other inputs"),
        ("(x.argmax(1) >= 0, x * 2)", {}, "ones at output 0"),
    ],
)  # fmt: skip
def test_problems_that_null_programs_solve_are_inadmissible(
    refer: Refer, forward: str, parts: dict[str, str], name: str
) -> None:
    reference = refer(forward, **parts)
    found, _ = calibrated(reference)
    assert not found.admitted and name in found.passed
    assert found.reason is not None and "null programs would pass" in found.reason
    with pytest.raises(InadmissibleProblem, match="null programs"):
        admit(reference, found, made=None, seeds=SEEDS, vary=frozenset(), precision="ieee")


@pytest.mark.parametrize(("forward", "what"), [("torch.complex(x, x)", "complex numbers"), ("None", "no tensor")])
def test_answers_that_cannot_be_compared_are_inadmissible(refer: Refer, forward: str, what: str) -> None:
    with pytest.raises(InadmissibleProblem, match=f"the reference returns {what}"):
        calibrated(refer(forward))


@pytest.mark.parametrize("name", ["0.99 x the answer", "1.01 x the answer", "all but the last row"])
def test_a_tolerance_too_wide_to_tell_makes_a_problem_inadmissible(refer: Refer, name: str) -> None:
    wide = Tolerance(elementwise=1e7, rms=1e7, floor_eps=1e7)
    assert name in calibrated(refer("torch.tanh(x) + x", tolerance=wide))[0].passed


def test_what_loose_tolerances_pass_is_rejected_on_the_own_inputs(refer: Refer) -> None:
    """At 1e-4 zeros are a softmax over many columns, and a normalisation by a large norm."""
    for forward in ("torch.softmax(x, 1)", "x / torch.norm(x) * 1e-3"):
        reference = refer(forward, inputs="torch.rand(2, 20000)")
        given = reference.case("given", seed=3, vary=frozenset(), precision="ieee")
        assert given is not None
        answer = reference.run(given)[0]
        assert torch.allclose(torch.zeros_like(answer), answer, atol=1e-4)
        assert not passing(reference, given) & {"zeros", "tiny", "the mean of other answers"}


def test_an_operation_that_cannot_matter_is_told_and_bars_nothing(refer: Refer) -> None:
    """A bias before a normalisation over the batch is taken out again; so is a second ReLU."""
    init = "self.fc = nn.Linear(100, 16)\nself.bn = nn.BatchNorm1d(16)"
    found, _ = calibrated(refer("F.relu(F.relu(self.bn(self.fc(x))))", init=init))
    assert found.admitted
    assert {"weight fc.bias", "weight bn.running_mean", "weight bn.running_var"} <= set(found.unseen)
    assert any(name.startswith("relu") for name in found.unseen)
    assert {"fc.weight", "bn.weight", "bn.bias"} <= set(found.seen_weights)


def test_cases_for_candidates_without_names_hide_what_matters(refer: Refer) -> None:
    def hidden(forward: str, init: str) -> set[str]:
        reference = refer(forward, init=init)
        found, _ = calibrated(reference)
        cases = admit(reference, found, made=None, seeds=SEEDS, vary=frozenset(), precision="ieee")
        return {name for case in cases for name in case.hidden}

    assert hidden("self.bn(x)", "self.bn = nn.BatchNorm1d(100).eval()") == {
        "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var",
    }  # fmt: skip
    assert hidden("self.bn(x)", "self.bn = nn.BatchNorm1d(100)") == {"bn.weight", "bn.bias"}


def test_an_output_finer_than_its_inputs_is_held_to_its_own_rounding(refer: Refer) -> None:
    inputs = "(1.0 + torch.rand(13, 16)).bfloat16()"
    case = refer("(x.float().prod(1), x.prod(1))", inputs=inputs).case(
        "given", seed=7, vary=frozenset(), precision="ieee"
    )
    assert case is not None
    fine, coarse = case.expected
    assert fine.max_relative < 1e-4 and coarse.max_relative > 1e-2
    own = case.inputs[0].float().flip(1).prod(1)
    assert agrees(own, fine, fine.answer()) and not agrees(own.bfloat16().float(), fine, fine.answer())


def test_no_bound_of_a_single_number_is_small_by_luck(refer: Refer) -> None:
    """A sum near zero may be exact in one order of adding, and unmoved by one rounding of its inputs."""
    inputs = "(lambda half: torch.cat((half, 1e-6 - half)))(torch.randn(32, 100))"
    reference = refer("x.mean()", inputs=inputs)
    for seed in range(100):
        case = reference.case("given", seed=seed, vary=frozenset(), precision="ieee")
        assert case is not None
        (want,) = case.expected
        usual = 2.0**-24 * float(case.inputs[0].norm()) / case.inputs[0].numel()
        allowed = min(want.max_relative * 2 * abs(float(want.answer())), want.max_rms * want.scale)
        assert allowed > 8 * usual, seed


def test_a_sum_near_zero_may_be_added_up_part_by_part(refer: Refer) -> None:
    """As kernels do by atomics or under a lock, whose error is several times what one rounding of the inputs does."""
    reference = refer("x.mean()", inputs="torch.randn(64, 128)")
    ratios = []
    for seed in range(60):
        case = reference.case("outliers", seed=seed, vary=frozenset(), precision="ieee")
        assert case is not None
        added_up = case.inputs[0].reshape(1024, -1).sum(1).numpy().cumsum(dtype="float32")[-1]
        compared = compare([torch.tensor(added_up) / case.inputs[0].numel()], case.expected)
        ratios += [compared.max_error_ratio, compared.rms_error_ratio]
    assert max(ratios) < 0.75


def test_stopping_early_passes_what_comparing_passes() -> None:
    generator = torch.Generator().manual_seed(0)
    num_agreed = 0
    for round_ in range(60):
        value = torch.randn(300, 700, generator=generator, dtype=torch.float64)
        noise = torch.randn(300, 700, generator=generator, dtype=torch.float64)
        output = (value + noise * 2e-7 * 1.3 ** (round_ % 30)).float()
        if round_ % 3 == 0:
            output.view(-1)[-1 - round_] += 0.5
        if round_ % 7 == 0:
            output[0, 0], value[0, 0] = float("inf"), float("inf")
        want = expect("", value, (value.float(),), Tolerance(), recompute=None)
        agreed = agrees(output, want, want.answer())
        assert agreed == (compare([output], [want]).failure is None)
        num_agreed += agreed
    assert 0 < num_agreed < 60
    assert not agrees(output.half(), want, want.answer()) and not agrees(output[:5], want, want.answer())


def test_a_constant_problem_is_the_users_to_mend_and_no_candidate_is_blamed(
    tracer: Tracer, interpret_judge: InterpretJudge, sources: dict[str, str]
) -> None:
    problem = Problem(id="constant", source=source("x * 0"), origin="test")
    candidate = Candidate(problem_id="constant", source=sources["relu_answer"], operator=Operator.DRAFT)
    with pytest.raises(ProblemFailed, match=r"null programs would pass \(zeros"):
        interpret_judge.judge(problem, candidate, tracer.trace(problem, candidate))


@pytest.mark.parametrize(
    "problem",
    [p for folder in ("configs/problems", "tests/adversarial/problems") for p in load_problems(ROOT / folder)],
    ids=lambda problem: problem.id,
)
def test_our_own_problems_are_admitted_with_nothing_unseen(
    problem: Problem, tracer: Tracer, interpret_judge: InterpretJudge
) -> None:
    found = interpret_judge.calibrate(problem, tracer.spec(problem), precision="ieee")
    assert found.admitted and found.num_rejected == found.num_nulls > 0 and found.unseen == ()


@pytest.mark.parametrize("kind", STRESS)
def test_stress_keeps_shape_dtype_and_what_is_expanded(kind: str) -> None:
    row = torch.rand(1, 100).expand(32, 100)
    for t in (torch.rand(4, 5, 6), row, torch.rand(()), torch.rand(7).half(), torch.rand(64, 3)[:, ::2], torch.rand(0)):
        made = stressed(kind, t, seed=1)
        assert made.shape == t.shape and made.dtype == t.dtype and torch.isfinite(made).all()
    assert stressed(kind, row, seed=1).stride(0) == 0
    assert torch.equal(stressed(kind, torch.arange(9), seed=1), torch.arange(9))
    assert not torch.equal(stressed(kind, torch.rand(64, 9), seed=1), torch.rand(64, 9))


@pytest.mark.parametrize(
    ("forward", "parts"),
    [
        ("F.binary_cross_entropy(torch.sigmoid(x), (x > 0.5).float())", {}),
        ("F.binary_cross_entropy(x, (x > 0.5).float())", {}),
        ("F.embedding((torch.sigmoid(x) * 15).long(), self.w)", {"init": "self.w = nn.Parameter(torch.rand(16, 4))"}),
        ("self.w[(torch.sigmoid(x) * 15).long()]", {"init": "self.w = nn.Parameter(torch.rand(16))"}),
        ("x.gather(1, (torch.sigmoid(x) * 99).long())", {}),
    ],
)
def test_null_programs_and_stress_reach_no_assertion_of_a_device(
    refer: Refer, monkeypatch: pytest.MonkeyPatch, forward: str, parts: dict[str, str]
) -> None:
    """On a GPU such an assertion ends the context; the same operators on the CPU raise from within."""
    reached = []
    for name in ("binary_cross_entropy", "embedding"):
        original = getattr(F, name)

        def noting(*args: object, original: Callable[..., object] = original, **kwargs: object) -> object:
            try:
                return original(*args, **kwargs)
            except (RuntimeError, IndexError) as error:  # what the operator says, not ValueError, which is ours
                if isinstance(error, IndexError) or "between 0 and 1" in str(error):
                    reached.append(error)
                raise

        monkeypatch.setattr(F, name, noting)
    assert calibrated(refer(forward, **parts))[0].admitted
    assert reached == []


def test_a_module_is_constructed_once_a_seed(refer: Refer) -> None:
    reference = refer(
        "F.linear(x, self.w)",
        init="self.w = nn.Parameter(torch.rand(8, 100))\nglobals().setdefault('built', []).append(1)",
    )
    built = reference._module.__dict__.setdefault("built", [])
    found, cases = calibrated(reference)
    for case in cases:
        reference.run(case)
    assert found.admitted and len(built) == len(cases)


@pytest.mark.parametrize(
    ("forward", "init"),
    [
        ("x / torch.sqrt(torch.mean(x**2, dim=1, keepdim=True) + 1e-5)", ""),
        ("self.norm(x)", "self.norm = nn.GroupNorm(4, 8)"),
        ("x.relu()", ""),
    ],
)
def test_calibrating_takes_a_small_multiple_of_the_inputs_memory(
    refer: Refer, monkeypatch: pytest.MonkeyPatch, forward: str, init: str
) -> None:
    """Whether problems of gigabytes can be judged at all hangs on it. Two cases; parts and what is kept are made small
    as the problem is. Reference cycles would keep tensors until some later collection, so none is made."""
    reference = refer(forward, inputs="torch.rand(8, 8, 64, 64)", init=init)
    num_bytes = 4 * 8 * 8 * 64 * 64
    for name in ("compare.CHUNK_ELEMENTS", "error_figures.CHUNK_ELEMENTS", "null_programs.CHUNK_ELEMENTS",
                 "stress._PART_ELEMENTS"):  # fmt: skip
        monkeypatch.setattr(f"sandbox.{name}", num_bytes // 4 // 32)
    for name in ("compare.KEPT_BYTES", "calibrate._TRIAL_BYTES"):
        monkeypatch.setattr(f"sandbox.{name}", 1024)
    gc.disable()
    try:
        with profile(profile_memory=True) as profiled:
            found, cases = calibrate(reference, seeds=SEEDS, num_cases=2, precision="ieee")
    finally:
        gc.enable()
    assert found.admitted and len(cases) == 2
    events = (event for event in profiled.kineto_results.events() if event.name() == "[memory]")
    live = list(itertools.accumulate(event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())))
    print(f"{max(live) / num_bytes:.2f} times, {live[-1] / num_bytes:.2f} stay")
    assert max(live) < 9 * num_bytes
    assert live[-1] < 2.5 * num_bytes  # the inputs of the cases


# --- precision ----------------------------------------------------------------------------------------------------

MATMUL = {"inputs": "torch.randn(48, 512), torch.randn(512, 40)"}


def tf32(t: torch.Tensor) -> torch.Tensor:
    """Cut to 10 explicit bits, as the hardware may: twice as far off as rounding to nearest."""
    return (t.contiguous().view(torch.int32) & ~0x1FFF).view(torch.float32)


def test_bounds_for_tf32_pass_tf32_and_nothing_else(refer: Refer) -> None:
    reference = refer("torch.matmul(xs[0], xs[1])", **MATMUL)
    found, cases = calibrated(reference, precision="tf32")
    assert found.admitted and found.unseen == () and {case.precision for case in cases} == {"tf32"}
    narrow = reference.case("given", seed=cases[0].seed, vary=frozenset(), precision="ieee")
    assert narrow is not None
    a, b = cases[0].inputs
    output = tf32(a) @ tf32(b)
    assert compare([output], cases[0].expected).failure is None
    assert compare([output], narrow.expected).failure is not None
    for worse in (a.bfloat16().float() @ b.bfloat16().float(), (a @ b) * 0.99):
        assert compare([worse], cases[0].expected).failure is not None


def test_bounds_for_tf32_follow_products_one_after_the_other(refer: Refer) -> None:
    inputs = "torch.randn(48, 256), torch.randn(256, 256), torch.randn(256, 40)"
    reference = refer("torch.tanh(xs[0] @ xs[1] * 0.1) @ xs[2]", inputs=inputs)
    _, cases = calibrated(reference, precision="tf32")
    a, b, c = cases[0].inputs
    output = tf32(torch.tanh(tf32(a) @ tf32(b) * 0.1)) @ tf32(c)
    assert compare([output], cases[0].expected).failure is None


@pytest.mark.parametrize("inputs", ["randn", "rand"])
def test_bounds_for_float16_sums_pass_them(refer: Refer, inputs: str) -> None:
    """Terms of random sign and of one sign, K = 256: a running sum in float16, rounded after each term."""
    given = f"torch.{inputs}(24, 256).half(), torch.{inputs}(256, 24).half()"
    reference = refer("torch.matmul(xs[0], xs[1])", inputs=given)
    found, cases = calibrated(reference, precision="fp16_accumulate")
    assert found.admitted
    a, b = cases[0].inputs
    output = torch.zeros(24, 24, dtype=torch.float16)
    for k in range(256):
        output += a[:, k : k + 1] * b[k : k + 1]
    assert compare([output], cases[0].expected).failure is None
    narrow = reference.case("given", seed=cases[0].seed, vary=frozenset(), precision="ieee")
    assert narrow is not None and compare([output], narrow.expected).failure is not None
    assert compare([torch.zeros_like(output)], cases[0].expected).failure is not None


def test_a_lower_precision_changes_nothing_for_a_problem_of_integers(refer: Refer) -> None:
    found, cases = calibrated(refer("x.argmax(1)"), precision="tf32")
    assert found.admitted and cases[0].expected[0].max_relative == 0.0


# --- on a GPU -----------------------------------------------------------------------------------------------------


@pytest.mark.gpu
def test_large_weights_are_drawn_on_the_device_in_no_time(tracer: Tracer) -> None:
    import time

    text = source("self.fc(x)", inputs="torch.rand(64, 16384)", init="self.fc = nn.Linear(16384, 32768)")
    problem = Problem(id="wide", source=text, origin="test")
    reference = Reference(problem, spec=tracer.spec(problem), device=torch.device("cuda"))
    torch.zeros(1, device="cuda")
    start = time.monotonic()
    found, cases = calibrated(reference)
    took = time.monotonic() - start
    print(f"{took:.2f} s")
    assert found.admitted and cases[0].matched and took < 10  # 2 GiB of weights, three seeds
    assert not torch.equal(cases[0].weights["fc.bias"], cases[2].weights["fc.bias"])


@pytest.mark.gpu
def test_weights_that_a_candidate_draws_again_are_drawn_on_the_cpu(tracer: Tracer) -> None:
    text = source("self.fc(x)", inputs="torch.rand(64, 96)", init="self.fc = nn.Linear(96, 32)")
    problem = Problem(id="narrow", source=text, origin="test")
    reference = Reference(problem, spec=tracer.spec(problem), device=torch.device("cuda"))
    by_seed = reference.case("given", seed=5, vary=frozenset(), precision="ieee")
    torch.manual_seed(5)
    assert by_seed is not None
    assert torch.equal(by_seed.weights["fc.weight"].cpu(), torch.nn.Linear(96, 32).weight)
