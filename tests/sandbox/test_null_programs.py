"""Operations left out: which are listed where no input tells, and which inputs are made so that they tell."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from sandbox.calibrate import MAX_ADDED, admit, calibrate
from sandbox.calibration import Calibration
from sandbox.null_programs import Trial, null_programs
from sandbox.reference import Case, Reference
from sandbox.stress import scaled_kinds, stressed
from sandbox.thresholds import Thresholds
from sandbox.tracer import Tracer
from sandbox.types import Problem

SEEDS = tuple(range(2000, 2003 + MAX_ADDED))
Refer = Callable[..., Reference]


@pytest.fixture(scope="module")
def refer(tracer: Tracer) -> Refer:
    """The reference of a forward pass whose statements are given."""

    def make(body: str, *, inputs: str = "torch.randn(64, 40)") -> Reference:
        lines = "\n".join(f"        {line.strip()}" for line in body.split(";"))
        source = (
            "import torch\nimport torch.nn as nn\nimport torch.nn.functional as F\n\n\nclass Model(nn.Module):\n"
            f"    def forward(self, x):\n{lines}\n\n\n"
            f"def get_inputs():\n    return [{inputs}]\n\n\ndef get_init_inputs():\n    return []\n"
        )
        problem = Problem(id="problem", source=source, origin="test")
        return Reference(problem, spec=tracer.spec(problem), device=torch.device("cpu"))

    return make


def calibrated(reference: Reference) -> tuple[Calibration, list[Case]]:
    return calibrate(reference, seeds=SEEDS, num_cases=3, precision="ieee")


NEVER = "torch.tanh(x) > 1.5"


@pytest.mark.parametrize(
    ("body", "unseen"),
    [
        (f"y = x * 2; y[{NEVER}] = 0.0; return y", "index_put_ (operation 3)"),
        (f"y = x * 2; y.masked_fill_({NEVER}, 0.0); return y", "masked_fill_ (operation 3)"),
        ("y = x * 2; y[:, :5] = (x * 2)[:, :5]; return y", "copy_ (operation 3)"),
        ("y = x * 2; y[:, 3] *= 0; y[:, 3] = 0.0; return y", "fill_ (operation 3)"),
        ("y = x * 2; i = x.argsort(1); y.scatter_(1, i, y.gather(1, i)); return y", "scatter_ (operation 4)"),
        ("y = x * 2; return torch.add(y, x * 0, out=torch.empty_like(x))", "add (operation 3, self in its place)"),
        (f"y = x * 2; return torch.where({NEVER}, torch.zeros_like(y), y)", "where (operation 3, other in its place)"),
        (f"y = x * 2; return torch.where(~({NEVER}), y, torch.zeros_like(y))", "where (operation 3)"),
        ("y = x * 2; return torch.lerp(x, y, torch.ones_like(x))", "lerp (operation 2, end in its place)"),
    ],
)
def test_whatever_can_be_left_out_unnoticed_is_listed(refer: Refer, body: str, unseen: str) -> None:
    found, _ = calibrated(refer(body))
    assert found.admitted and unseen in found.unseen


@pytest.mark.parametrize(
    "body",
    [
        "y = torch.empty_like(x); y[:, :20] = x[:, :20] * 2; y[:, 20:] = x[:, 20:] * 3; return y",
        "y = torch.empty_like(x); y.copy_(x); y[x > 0] = 0.0; return y",
        "y = x.new_empty(64, 40); torch.mul(x, x.flip(0), out=y); return y + 1",
        "y = x * 2; y[x > 0.5] = 0.0; y[:, 0] = 7.0; return y",
        "y = x * 2; y[:, 0] += 1.0; return y",
        "y = x * 2; y.index_add_(0, torch.arange(3), x[:3]); return y.squeeze_()",
    ],
)
def test_writes_that_matter_are_seen(refer: Refer, body: str) -> None:
    found, _ = calibrated(refer(body))
    assert found.admitted and found.unseen == ()


def test_what_nobody_has_written_is_nan_whatever_lay_there_before(refer: Refer) -> None:
    """It may be an earlier answer, which would pass."""
    reference = refer("y = torch.empty_like(x); y[:, :20] = x[:, :20] * 2; y[:, 20:] = x[:, 20:] * 3; return y")
    case = reference.case("given", seed=1, vary=frozenset(), precision="ieee")
    assert case is not None
    own = reference.run(case)
    trial = Trial(reference=reference, case=case, own=own, other_inputs=lambda: case.inputs, elsewhere=lambda: own)
    (first, _) = [p for p in null_programs(reference, trial) if p.name.startswith("copy_")]
    left = (first.outputs(trial) or {})[0]
    assert left[:, :20].isnan().all() and torch.equal(left[:, 20:], own[0][:, 20:])


@pytest.mark.parametrize(
    ("body", "inputs"),
    [
        ("y = x * 2; y[x > 150.0] = 0.0; return y", "torch.randn(64, 40)"),
        ("y = x * 2; return torch.where(x > 150.0, torch.zeros_like(y), y)", "torch.randn(64, 40)"),
        ("return (x * 2).clamp(max=4000.0)", "torch.rand(64, 40)"),
        ("return torch.minimum(x * 2, torch.full_like(x, 700.0))", "torch.rand(300)"),
        ("y = x * 2; y[x < -150.0] = 0.0; return y", "torch.rand(64, 40)"),
        ("y = x * x; y[y > 22500.0] = 0.0; return y", "torch.randn(64, 40)"),
        ("y = x.sum(1); return F.hardtanh(y, -5000.0, 5000.0)", "torch.randn(64, 40)"),
        ("return x.log() + x.clamp(min=1e-5).sqrt()", "torch.rand(64, 40) + 5"),
        ("y = x * 2; y[x > 900.0] = 0.0; return y", "torch.randn(64, 40).half()"),
    ],
)
def test_inputs_reach_the_thresholds_of_the_graph(refer: Refer, body: str, inputs: str) -> None:
    """None of the kinds that all problems share gets there, and whoever is told the kinds makes the same cases."""
    reference = refer(body, inputs=inputs)
    found, cases = calibrated(reference)
    assert found.admitted and found.unseen == ()
    assert found.kinds[-1].startswith("scaled")
    again = admit(reference, found, made=None, seeds=SEEDS, vary=frozenset(), precision="ieee")
    assert [case.kind for case in again] == list(found.kinds)
    assert torch.equal(again[-1].inputs[0], cases[-1].inputs[0])


def test_a_problem_that_shows_all_without_gets_no_scaled_inputs(refer: Refer) -> None:
    found, _ = calibrated(refer("return torch.clamp(x, -1.0, 1.0)"))
    assert found.unseen == () and not any(kind.startswith("scaled") for kind in found.kinds)


def test_scales_straddle_the_nearest_and_the_farthest_threshold() -> None:
    x = torch.tensor([1.0, -10.0, float("inf")])
    with Thresholds() as thresholds:
        assert thresholds.scales is None
        torch.clamp(x, 1e-3, 2e3)
        _ = x > torch.tensor(-5e4)
        _ = x * 1e9
    low, high = thresholds.scales or (0.0, 0.0)
    assert low == pytest.approx(1e-4 / 4) and high == pytest.approx(5e3 * 4)


@pytest.mark.parametrize("shape", [(64, 40), (2, 20, 30), (3000,), (3,), ()])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_scaled_inputs_cover_the_range(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    ones = torch.ones(shape, dtype=dtype)
    keeping, signed = (stressed(kind, ones, seed=3) for kind in scaled_kinds(0.01, 500.0))
    assert keeping.shape == ones.shape and keeping.dtype == dtype
    if ones.numel() > 1:
        assert float(keeping.min()) == pytest.approx(0.01, rel=1e-2)
        assert float(keeping.max()) == pytest.approx(500.0, rel=1e-2)
    if ones.numel() > 16:
        assert (signed < 0).any() and (signed > 0).any()


def test_a_kind_that_there_is_not_is_no_stress() -> None:
    with pytest.raises(ValueError, match="no kind of stress: shrunk 1 to 2"):
        stressed("shrunk 1 to 2", torch.ones(3), seed=1)
