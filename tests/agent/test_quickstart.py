"""The quickstart with nothing scripted at all: a real model is sampled, and what it writes is traced and judged."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from agent import cli
from agent.events import Judged, Sampled
from agent.ledger import Ledger
from sandbox.types import Operator, Status

pytestmark = pytest.mark.timeout(900)  # a minute on two idle cores

ROOT = Path(cli.__file__).parents[1]
# Two that the stand-in gets right most of the time, and one that took it five answers and a repair.
PROBLEMS = ("matmul_matmul_elu", "planes_instance_norm", "broadcast_sub_per_channel_add_per_channel_abs")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run."""
    folder = tmp_path_factory.mktemp("quickstart") / "run"
    arguments = [
        "run",
        str(ROOT / "configs" / "quickstart.yaml"),
        f"problems.path={ROOT / 'configs' / 'problems_standin'}",
        f"problems.only=[{', '.join(PROBLEMS)}]",
        f"sampler.model={ROOT / 'standin' / 'checkpoint'}",
        "budget.samples=6",
        f"run_dir={folder}",
        "ray.pool=serial",
        "judge.mode=interpret",
    ]
    assert cli.main(arguments) == 0
    return folder


def test_a_real_model_solves_some_of_it_and_its_winners_hold(run: Path) -> None:
    winners = {path.stem for path in (run / "best").glob("*.py")}
    assert winners & set(PROBLEMS[:2])
    for name in winners:
        problem = ROOT / "configs" / "problems_standin" / f"{name}.py"
        assert cli.main(["judge", str(problem), str(run / "best" / f"{name}.py"), "--mode", "interpret"]) == 0


def test_its_mistakes_are_real_and_are_asked_to_be_repaired(run: Path) -> None:
    with Ledger.open_read_only(run / "ledger.sqlite") as ledger:
        events = [entry.event for entry in ledger.events()]
    statuses = Counter(event.verdict.status for event in events if isinstance(event, Judged))
    assert len(statuses.keys() - {Status.PASSED}) >= 2, statuses
    samples = [event for event in events if isinstance(event, Sampled)]
    asked = {event.proposal.operator for event in samples}
    assert {Operator.DRAFT, Operator.REPAIR} <= asked <= {Operator.DRAFT, Operator.REPAIR, Operator.FIX}
    assert all(event.finish_reason == "stop" and event.completion_tokens > 50 for event in samples[:3])
    assert len({event.candidate.source for event in samples}) > len(samples) // 2
