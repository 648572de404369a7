"""Finds the verdicts that say why problems are unverified, where the latest ones are of another kind.

Reads the ledger of a run, and only where there is such a problem; knows nothing of how they are shown.
"""

from __future__ import annotations

from collections.abc import Mapping

from agent.events import Judged
from agent.ledger import Ledger
from agent.run_record import UNVERIFIED, RunRecord
from sandbox.types import Status, Verdict


def why_unverified(record: RunRecord) -> Mapping[str, Verdict]:
    """The latest unverified verdict on each unverified problem, by id. Raises LedgerError."""
    unverified = [result for result in record.results if result.word == UNVERIFIED]
    found = {result.problem_id: result.last for result in unverified if result.last is not None}
    sought = {problem_id for problem_id, last in found.items() if last.status is not Status.UNVERIFIED}
    if not sought:
        return found
    with Ledger.open_read_only(record.folder.ledger) as ledger:
        for entry in ledger.events():
            event = entry.event
            if isinstance(event, Judged) and event.problem_id in sought and event.verdict.status is Status.UNVERIFIED:
                found[event.problem_id] = event.verdict
    return found
