"""A simulator's world with what a run has on record in place of what was stated.

Knows nothing of strategies. Likelihoods hold whatever rule decided how often something was tried, so runs of every
strategy can be fitted; what a ledger holds too little of stays as stated, and is named.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from agent.difficulty import Fit, climb, compare_fits
from agent.events import DurableEvent, Judged, Sampled
from agent.resampling import Floats
from agent.statistics import Draws
from sandbox.types import Candidate, Operator, Status, Verdict
from strategies.world import Cost, Refinement, Speeds, World

MIN_TRIALS = 10  # of a kind; with fewer its figure stays as stated
MAX_LOG_WORTH = 4.0  # more than fifty drafts: nothing on record could tell
TINY = 1e-300
LOGITS = np.linspace(-14.0, 8.0, 221)  # of p; the Jacobian of the logit is p (1 - p)
LOG_PASS, LOG_MISS = -np.log1p(np.exp(-LOGITS)), -np.log1p(np.exp(LOGITS))


class NothingToFit(ValueError):
    """A ledger holds no judged draft."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FitReport:
    """`lines` say of each figure what it was taken from, or that it stays as stated."""

    world: World
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RepairTrial:
    """A repair: of what, after how many repairs and fixes before it in the chain, and what came of it."""

    problem_id: str
    status: Status
    num_before: int
    came_to: Status


@dataclass(slots=True, kw_only=True)
class Records:
    """A ledger's answers, sorted by what can be learnt from them."""

    verdicts: dict[str, Verdict] = field(default_factory=dict)
    answers: list[tuple[str, Candidate]] = field(default_factory=list)  # of each problem, repetitions included
    tokens: defaultdict[Operator, list[int]] = field(default_factory=lambda: defaultdict(list))

    @classmethod
    def of(cls, events: Iterable[DurableEvent]) -> Records:
        records = cls()
        for event in events:
            match event:
                case Sampled(problem_id=problem_id, candidate=candidate):
                    records.answers.append((problem_id, candidate))
                    records.tokens[candidate.operator].append(event.num_tokens)
                case Judged(verdict=verdict):
                    records.verdicts[verdict.candidate_id] = verdict
        records.answers = [answer for answer in records.answers if answer[1].id in records.verdicts]
        return records

    def judged(self, operator: Operator) -> list[tuple[str, Candidate, Verdict]]:
        return [(p, c, self.verdicts[c.id]) for p, c in self.answers if c.operator is operator]

    def drafts(self) -> dict[str, list[Verdict]]:
        by_problem: dict[str, list[Verdict]] = {}
        for problem_id, _, verdict in self.judged(Operator.DRAFT):
            by_problem.setdefault(problem_id, []).append(verdict)
        return by_problem

    def repairs(self) -> list[RepairTrial]:
        num_before: dict[str, int] = {}
        trials = []
        for problem_id, candidate in self.answers:
            if candidate.operator not in (Operator.REPAIR, Operator.FIX):
                continue
            parent, verdict = candidate.parent_ids[0], self.verdicts[candidate.id]
            before = num_before.get(parent, 0)
            num_before.setdefault(candidate.id, before + 1)
            if candidate.operator is Operator.REPAIR:
                status = self.verdicts[parent].status
                trials.append(
                    RepairTrial(problem_id=problem_id, status=status, num_before=before, came_to=verdict.status)
                )
        return trials


def fit_world(events: Iterable[DurableEvent], *, stated: World) -> FitReport:
    """From a ledger's events, in their order. Raises NothingToFit where no draft was judged."""
    records = Records.of(events)
    drafts = records.drafts()
    if not drafts:
        raise NothingToFit("nothing to fit: no draft of the run was judged")
    hardness = _hardness(drafts, stated=stated)
    world, lines = stated, []
    steps: tuple[Callable[[Records, World], tuple[World, str]], ...] = (
        lambda _, world: _with_difficulty(world, fit=hardness, drafts=drafts),
        lambda _, world: _with_failures(world, drafts=drafts),
        lambda records, world: _with_repairs(world, trials=records.repairs(), fit=hardness, drafts=drafts),
        lambda _, world: _with_speeds(world, drafts=drafts),
        _with_improvements,
        _with_costs,
        _with_gpu_seconds,
    )
    for step in steps:
        world, line = step(records, world)
        lines.append(line)
    return FitReport(world=world, lines=tuple(lines))


def _hardness(drafts: dict[str, list[Verdict]], *, stated: World) -> Fit:
    """How hard problems are; as stated where there are too few to tell three figures of their distribution."""
    if len(drafts) < MIN_TRIALS:
        given = stated.difficulty
        return Fit(alpha=given.alpha, beta=given.beta, impossible=given.impossible, log_likelihood=math.nan)
    return compare_fits([_counts(verdicts) for verdicts in drafts.values()]).with_impossible


def _counts(verdicts: Sequence[Verdict]) -> Draws:
    return Draws(num=len(verdicts), num_passed=sum(verdict.passed for verdict in verdicts), speedups=())


def _with_difficulty(world: World, *, fit: Fit, drafts: dict[str, list[Verdict]]) -> tuple[World, str]:
    if len(drafts) < MIN_TRIALS:
        told = f"FITTED TO LITTLE: drafts of {len(drafts)} problems were judged, {MIN_TRIALS} are needed for it"
        return world, f"difficulty as stated, the run's problems may be quite different. {told}"
    difficulty = replace(world.difficulty, alpha=fit.alpha, beta=fit.beta, impossible=fit.impossible)
    num = sum(len(verdicts) for verdicts in drafts.values())
    told = f"alpha {fit.alpha:.3g}, beta {fit.beta:.3g}, impossible {fit.impossible:.3g}"
    return replace(world, difficulty=difficulty), f"difficulty from {num} drafts of {len(drafts)} problems: {told}"


def _with_failures(world: World, *, drafts: dict[str, list[Verdict]]) -> tuple[World, str]:
    counts = Counter(verdict.status for verdicts in drafts.values() for verdict in verdicts if not verdict.passed)
    if counts.total() < MIN_TRIALS:
        return world, f"failures as stated: {counts.total()} drafts failed"
    failures = {status: count / counts.total() for status, count in sorted(counts.items())}
    worth = {**dict.fromkeys(failures, 0.0), **world.repairs.worth}  # one without repairs on record: see below
    repaired = replace(world.repairs, worth=worth)
    return replace(world, failures=failures, repairs=repaired), f"failures from {counts.total()} drafts"


def _with_repairs(
    world: World, *, trials: Sequence[RepairTrial], fit: Fit, drafts: dict[str, list[Verdict]]
) -> tuple[World, str]:
    """Worths and decay by maximum likelihood, over what each problem's chance may be."""
    counts = Counter(trial.status for trial in trials if trial.problem_id in drafts)
    enough = sorted(status for status, count in counts.items() if count >= MIN_TRIALS)
    if not enough:
        return world, f"repairs as stated: {len(trials)} on record"
    used = [trial for trial in trials if trial.problem_id in drafts and trial.status in enough]
    likelihood = RepairLikelihood.of(used, statuses=enough, fit=fit, drafts=drafts)
    *logs, logit = climb(likelihood, start=[*[0.0] * len(enough), 1.0])
    worth = {status: math.exp(min(log, MAX_LOG_WORTH)) for status, log in zip(enough, logs, strict=True)}
    decay = _share(logit)
    failed = [trial for trial in trials if trial.came_to is not Status.PASSED]
    keeps = sum(trial.came_to is trial.status for trial in failed) / len(failed) if failed else world.repairs.keeps
    repairs = replace(world.repairs, worth={**world.repairs.worth, **worth}, decay=decay, keeps=keeps)
    told = ", ".join(f"{status} {value:.2g}" for status, value in worth.items())
    return replace(world, repairs=repairs), f"repairs from {len(used)}: worth {told}; decay {decay:.2g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RepairLikelihood:
    """Of worths (logarithms) and decay (logit), a problem's chance p summed over on a grid.

    Whoever is repaired often is hard, so p is not known well enough to be put in as a figure: a problem's likelihood is
    the sum over p of the prior, its drafts and all of its repairs. `priors` has a row for each problem, a column for
    each p and a last one for the impossible; `counts` has a column for each kind of trial in `kinds`.
    """

    kinds: tuple[tuple[int, int, bool], ...]  # which status, how many repairs before, whether it passed
    counts: Floats
    priors: Floats

    @classmethod
    def of(
        cls, trials: Sequence[RepairTrial], *, statuses: Sequence[Status], fit: Fit, drafts: dict[str, list[Verdict]]
    ) -> RepairLikelihood:
        by_problem: dict[str, Counter[tuple[int, int, bool]]] = {}
        for trial in trials:
            kind = (statuses.index(trial.status), trial.num_before, trial.came_to is Status.PASSED)
            by_problem.setdefault(trial.problem_id, Counter())[kind] += 1
        kinds = tuple(sorted({kind for found in by_problem.values() for kind in found}))
        priors = [_log_prior(fit, drafts=_counts(drafts[problem_id])) for problem_id in by_problem]
        counts = [[found[kind] for kind in kinds] for found in by_problem.values()]
        return cls(kinds=kinds, counts=np.array(counts, dtype=np.float64), priors=np.array(priors))

    def __call__(self, point: Sequence[float]) -> float:
        """The log-likelihood at log worths and the logit of the decay."""
        *logs, logit = point
        decay = _share(logit)
        terms = np.empty((len(self.kinds), self.priors.shape[1]))
        for row, (status, num_before, passed) in enumerate(self.kinds):
            missed = math.exp(min(logs[status], MAX_LOG_WORTH)) * decay**num_before * LOG_MISS
            terms[row, :-1] = np.log(np.maximum(-np.expm1(missed), TINY)) if passed else missed
            terms[row, -1] = math.log(TINY) if passed else 0.0
        joint = self.priors + self.counts @ terms
        highest = joint.max(axis=1)
        return float((highest + np.log(np.exp(joint - highest[:, None]).sum(axis=1))).sum())


def _log_prior(fit: Fit, *, drafts: Draws) -> Floats:
    """Of each p on the grid, and of the impossible, with what the drafts said; up to a constant."""
    log_beta = math.lgamma(fit.alpha) + math.lgamma(fit.beta) - math.lgamma(fit.alpha + fit.beta)
    possible = (fit.alpha + drafts.num_passed) * LOG_PASS + (fit.beta + drafts.num - drafts.num_passed) * LOG_MISS
    possible += math.log(max(1.0 - fit.impossible, TINY)) - log_beta + math.log(LOGITS[1] - LOGITS[0])
    impossible = 0.0 if drafts.num_passed else fit.impossible
    return np.append(possible, math.log(max(impossible, TINY)))


def _share(logit: float) -> float:
    return 1.0 / (1.0 + math.exp(-min(max(logit, -30.0), 30.0)))


def _with_speeds(world: World, *, drafts: dict[str, list[Verdict]]) -> tuple[World, str]:
    """Means and spreads of the logarithms, between problems and within them (analysis of variance, one way)."""
    logs = [[math.log(v.speedup) for v in verdicts if v.timed] for verdicts in drafts.values()]
    logs = [group for group in logs if group]
    num, num_groups = sum(map(len, logs)), len(logs)
    if num_groups < MIN_TRIALS or num - num_groups < MIN_TRIALS:
        return world, f"speeds as stated: {num} drafts of {num_groups} problems were timed"
    means = [math.fsum(group) / len(group) for group in logs]
    typical = math.fsum(means) / num_groups
    within = math.fsum((x - m) ** 2 for group, m in zip(logs, means, strict=True) for x in group) / (num - num_groups)
    usual_size = num_groups / math.fsum(1 / len(group) for group in logs)  # the harmonic mean
    between = max(math.fsum((m - typical) ** 2 for m in means) / (num_groups - 1) - within / usual_size, 0.0)
    speeds = Speeds(
        typical=typical,
        between=math.sqrt(between),
        num_styles=1,
        between_styles=0.0,
        within=math.sqrt(within),
        noise=world.speeds.noise,
    )
    told = f"typical {typical:.2g}, between {speeds.between:.2g}, within {speeds.within:.2g}"
    return replace(world, speeds=speeds), f"speeds from {num} drafts of {num_groups} problems: {told}, one style"


def _with_improvements(records: Records, world: World) -> tuple[World, str]:
    """Regression of the child's logarithm on the parent's within each problem: the slope is what is kept. What is
    typical of a problem, which its few drafts do not tell well enough, drops out of it."""
    tried = records.judged(Operator.IMPROVE)
    typical = {problem_id: _typical(verdicts, speeds=world.speeds) for problem_id, verdicts in records.drafts().items()}
    pairs: dict[str, list[tuple[float, float]]] = {}
    for problem_id, candidate, verdict in tried:
        parent = records.verdicts[candidate.parent_ids[0]]
        if verdict.timed and parent.timed and problem_id in typical:
            pairs.setdefault(problem_id, []).append((math.log(parent.speedup), math.log(verdict.speedup)))
    num = sum(map(len, pairs.values()))
    if num - len(pairs) < MIN_TRIALS:
        return world, f"improve as stated: {num} timed pairs of {len(pairs)} problems on record"
    within = np.concatenate([np.array(found) - np.mean(found, axis=0) for found in pairs.values()])
    spread_x = float(within[:, 0] @ within[:, 0])
    keeps = float(within[:, 0] @ within[:, 1]) / spread_x if spread_x > 0 else 1.0
    spread = math.sqrt(float(((within[:, 1] - keeps * within[:, 0]) ** 2).sum()) / (num - len(pairs)))
    above = [(x - typical[problem], y - typical[problem]) for problem, found in pairs.items() for x, y in found]
    gain = math.fsum(y - keeps * x for x, y in above) / num
    breaks = sum(not verdict.passed for _, _, verdict in tried) / len(tried)
    improve = Refinement(gain=gain, spread=spread, keeps=keeps, breaks=breaks, new_style=world.improve.new_style)
    told = f"gain {gain:.2g}, keeps {keeps:.2g}, spread {spread:.2g}, breaks {breaks:.2g}"
    return replace(world, improve=improve), f"improve from {len(tried)}: {told}"


def _typical(verdicts: Sequence[Verdict], *, speeds: Speeds) -> float:
    """A problem's typical logarithm of a speedup, drawn towards that of all problems where few drafts were timed
    (Robinson 1991)."""
    logs = [math.log(verdict.speedup) for verdict in verdicts if verdict.timed]
    if not logs or speeds.between == 0.0:
        return speeds.typical
    trust = speeds.between**2 / (speeds.between**2 + speeds.within**2 / len(logs))
    return speeds.typical + trust * (math.fsum(logs) / len(logs) - speeds.typical)


def _with_costs(records: Records, world: World) -> tuple[World, str]:
    means = {operator: round(sum(found) / len(found)) for operator, found in records.tokens.items()}
    costs = {
        operator: Cost(tokens=means.get(operator, c.tokens), seconds=c.seconds) for operator, c in world.costs.items()
    }
    told = ", ".join(f"{operator} {tokens}" for operator, tokens in means.items())
    return replace(world, costs=costs), f"tokens of an answer from the ledger: {told}; seconds as stated"


def _with_gpu_seconds(records: Records, world: World) -> tuple[World, str]:
    """Means by status of what judging took of the GPU, for those that were judged often enough."""
    found: dict[Status, list[float]] = {}
    for verdict in records.verdicts.values():
        found.setdefault(verdict.status, []).append(verdict.spend.gpu_seconds)
    if not any(map(any, found.values())):
        return world, "GPU seconds as stated: no candidate took any"
    means = {status: math.fsum(taken) / len(taken) for status, taken in found.items() if len(taken) >= MIN_TRIALS}
    passed = means.pop(Status.PASSED, world.gpu_seconds)
    failed = {**world.failed_gpu_seconds, **means}
    told = ", ".join(f"{status} {mean:.2g}" for status, mean in sorted({Status.PASSED: passed, **means}.items()))
    return replace(world, gpu_seconds=passed, failed_gpu_seconds=failed), f"GPU seconds of a verdict: {told}"
