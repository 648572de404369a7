"""Says whether a resume would find anything to do, so that nothing is started for a run that is done.

Finds that out as a resume does, by replaying the ledger. Starts nothing and writes nothing.
"""

from __future__ import annotations

from agent.confirm import next_to_confirm
from agent.controller import RunPlan, replay, searches_of
from agent.ledger import Ledger
from agent.run_budget import RunBudget
from agent.run_folder import RunFolder
from agent.search import Search
from agent.snapshot import Snapshot, SnapshotError


def was_completed(folder: RunFolder) -> bool:
    """Whether the last process at work on the run left it done, with all its files. Tells nothing of what has changed
    since; False where it is not known."""
    try:
        return Snapshot.from_json(folder.progress.read_text(encoding="utf-8")).state == "completed"
    except (OSError, SnapshotError):
        return False


def nothing_left(plan: RunPlan, *, ledger: Ledger, folder: RunFolder, most_confirmed: int) -> bool:
    """Whether no search of the plan would go on, and nothing would be confirmed. Raises ResumeError, LedgerError."""
    searches = searches_of(plan, run_budget=RunBudget(plan.run_budget, prices=plan.prices), ledger=ledger)
    replay(ledger, searches=searches)
    return all(
        _is_over(search, epoch=ledger.epoch)
        and next_to_confirm(search.standing, most=most_confirmed) is None
        and (search.standing.winner is None or folder.best(search.problem.id).is_file())
        for search in searches.values()
    )


def _is_over(search: Search, *, epoch: int) -> bool:
    """Asks it for a proposal, so it is of no use afterwards."""
    if search.unsampled or search.unjudged:
        return False
    return search.propose(epoch=epoch, seconds=0.0) is None and search.done
