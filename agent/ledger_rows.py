"""The ledger's tables, and their rows as events.

Knows nothing of files, locks, transactions or the order of work.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from agent.events import Attempt, Confirmed, DurableEvent, EndReason, Judged, Proposed, Sampled, SearchEnded, Unsampled
from sandbox import strict_json
from sandbox.types import Candidate, Operator, Proposal, Verdict

SCHEMA_VERSION = 4
SCHEMA = """
CREATE TABLE problems (id TEXT PRIMARY KEY, key TEXT NOT NULL) STRICT;
CREATE TABLE epochs (epoch INTEGER PRIMARY KEY, opened_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP) STRICT;
CREATE TABLE proposed (
    seq INTEGER PRIMARY KEY, epoch INTEGER NOT NULL, seconds REAL NOT NULL,
    problem_id TEXT NOT NULL, proposal_id TEXT NOT NULL, operator TEXT NOT NULL, parents TEXT NOT NULL,
    UNIQUE (problem_id, proposal_id)
) STRICT;
CREATE TABLE candidates (
    id TEXT PRIMARY KEY, problem_id TEXT NOT NULL, operator TEXT NOT NULL, parents TEXT NOT NULL,
    truncated INTEGER NOT NULL, source TEXT NOT NULL
) STRICT;
CREATE TABLE sampled (
    seq INTEGER PRIMARY KEY, epoch INTEGER NOT NULL, seconds REAL NOT NULL,
    problem_id TEXT NOT NULL, proposal_id TEXT NOT NULL, number INTEGER NOT NULL,
    candidate_id TEXT NOT NULL REFERENCES candidates, truncated INTEGER NOT NULL, seed INTEGER NOT NULL,
    finish_reason TEXT, prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL,
    tokens_estimated INTEGER NOT NULL, sampler TEXT,
    UNIQUE (problem_id, proposal_id),
    FOREIGN KEY (problem_id, proposal_id) REFERENCES proposed (problem_id, proposal_id)
) STRICT;
CREATE TABLE transcripts (
    seq INTEGER PRIMARY KEY REFERENCES sampled, prompt TEXT NOT NULL, completion TEXT NOT NULL,
    token_ids BLOB
) STRICT;
CREATE TABLE unsampled (
    seq INTEGER PRIMARY KEY, epoch INTEGER NOT NULL, seconds REAL NOT NULL,
    problem_id TEXT NOT NULL, proposal_id TEXT NOT NULL, number INTEGER NOT NULL, reason TEXT NOT NULL,
    UNIQUE (problem_id, proposal_id),
    FOREIGN KEY (problem_id, proposal_id) REFERENCES proposed (problem_id, proposal_id)
) STRICT;
CREATE TABLE judged (
    seq INTEGER PRIMARY KEY, epoch INTEGER NOT NULL, seconds REAL NOT NULL,
    problem_id TEXT NOT NULL, candidate_id TEXT NOT NULL UNIQUE REFERENCES candidates, number INTEGER NOT NULL,
    status TEXT NOT NULL, speedup REAL NOT NULL, verdict TEXT NOT NULL
) STRICT;
CREATE TABLE ended (
    seq INTEGER PRIMARY KEY, epoch INTEGER NOT NULL, seconds REAL NOT NULL,
    problem_id TEXT NOT NULL, reason TEXT NOT NULL, detail TEXT
) STRICT;
CREATE TABLE confirmed (
    seq INTEGER PRIMARY KEY, epoch INTEGER NOT NULL, seconds REAL NOT NULL,
    problem_id TEXT NOT NULL, candidate_id TEXT NOT NULL UNIQUE REFERENCES candidates, number INTEGER NOT NULL,
    status TEXT NOT NULL, speedup REAL NOT NULL, verdict TEXT NOT NULL
) STRICT;
CREATE TABLE attempts (
    work TEXT NOT NULL, epoch INTEGER NOT NULL, number INTEGER NOT NULL, ended TEXT,
    PRIMARY KEY (work, epoch, number)
) STRICT, WITHOUT ROWID;
CREATE INDEX attempts_open ON attempts (work) WHERE ended IS NULL;
CREATE TABLE best (
    problem_id TEXT PRIMARY KEY, candidate_id TEXT NOT NULL REFERENCES candidates, speedup REAL NOT NULL
) STRICT;
"""

Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """An event as recorded: `seq` orders all events of a run, `seconds` is its time since its epoch began."""

    seq: int
    epoch: int
    seconds: float
    event: DurableEvent


# Each journal table's rows in order, led by the columns of an entry.
JOURNAL = {
    "proposed": "SELECT seq, epoch, seconds, problem_id, proposal_id, operator, parents FROM proposed ORDER BY seq",
    "sampled": """
        SELECT s.seq, s.epoch, s.seconds, s.problem_id, s.proposal_id, p.operator, p.parents, s.number, s.truncated,
            s.seed, s.finish_reason, s.prompt_tokens, s.completion_tokens, s.tokens_estimated, s.sampler,
            c.source
        FROM sampled s JOIN candidates c ON c.id = s.candidate_id JOIN proposed p USING (problem_id, proposal_id)
        ORDER BY s.seq""",
    "unsampled": """
        SELECT u.seq, u.epoch, u.seconds, u.problem_id, u.proposal_id, p.operator, p.parents, u.number, u.reason
        FROM unsampled u JOIN proposed p USING (problem_id, proposal_id) ORDER BY u.seq""",
    "judged": "SELECT seq, epoch, seconds, problem_id, number, verdict FROM judged ORDER BY seq",
    "ended": "SELECT seq, epoch, seconds, problem_id, reason, detail FROM ended ORDER BY seq",
    "confirmed": "SELECT seq, epoch, seconds, problem_id, number, verdict FROM confirmed ORDER BY seq",
}


def parents_text(parents: tuple[str, ...]) -> str:
    """Candidate ids are hexadecimal, so a space parts them."""
    return " ".join(parents)


def parents_of(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def token_bytes(ids: tuple[int, ...] | None) -> bytes | None:
    """Token ids in about two bytes each: 32 bits, little end first, then deflated."""
    return None if ids is None else zlib.compress(struct.pack(f"<{len(ids)}I", *ids), 1)


def tokens_of(packed: bytes | None) -> tuple[int, ...] | None:
    """Raises ValueError if they are not what `token_bytes` made."""
    if packed is None:
        return None
    try:
        return tuple(number for (number,) in struct.iter_unpack("<I", zlib.decompress(packed)))
    except (zlib.error, struct.error) as error:
        raise ValueError(f"token ids: {error}") from error


def verdict_text(verdict: Verdict) -> str:
    return strict_json.dumps(verdict.to_json())


def verdict_of(text: str) -> Verdict:
    return Verdict.from_json(json.loads(text))


def read_proposed(row: Row) -> Entry:
    seq, epoch, seconds, problem_id, *proposal = row
    event = Proposed(problem_id=problem_id, proposal=_proposal(*proposal))
    return Entry(seq=seq, epoch=epoch, seconds=seconds, event=event)


def read_sampled(row: Row) -> Entry:
    seq, epoch, seconds, problem_id, proposal_id, operator, parents, number, truncated, *counts, source = row
    proposal = _proposal(proposal_id, operator, parents)
    seed, finish_reason, prompt_tokens, completion_tokens, tokens_estimated, sampler = counts
    event = Sampled(
        problem_id=problem_id,
        proposal=proposal,
        candidate=Candidate(
            problem_id=problem_id,
            source=source,
            operator=proposal.operator,
            parent_ids=proposal.parents,
            truncated=bool(truncated),
        ),
        attempt=Attempt(epoch=epoch, number=number),
        seed=seed,
        finish_reason=finish_reason,
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        tokens_estimated=bool(tokens_estimated),
        transcript=None,
        sampler=sampler,
    )
    return Entry(seq=seq, epoch=epoch, seconds=seconds, event=event)


def read_unsampled(row: Row) -> Entry:
    seq, epoch, seconds, problem_id, proposal_id, operator, parents, number, reason = row
    event = Unsampled(
        problem_id=problem_id,
        proposal=_proposal(proposal_id, operator, parents),
        attempt=Attempt(epoch=epoch, number=number),
        reason=reason,
    )
    return Entry(seq=seq, epoch=epoch, seconds=seconds, event=event)


def read_judged(row: Row) -> Entry:
    seq, epoch, seconds, problem_id, number, verdict = row
    attempt = Attempt(epoch=epoch, number=number)
    event = Judged(problem_id=problem_id, verdict=verdict_of(verdict), attempt=attempt)
    return Entry(seq=seq, epoch=epoch, seconds=seconds, event=event)


def read_ended(row: Row) -> Entry:
    seq, epoch, seconds, problem_id, reason, detail = row
    event = SearchEnded(problem_id=problem_id, end=EndReason(reason), detail=detail)
    return Entry(seq=seq, epoch=epoch, seconds=seconds, event=event)


def read_confirmed(row: Row) -> Entry:
    seq, epoch, seconds, problem_id, number, verdict = row
    attempt = Attempt(epoch=epoch, number=number)
    event = Confirmed(problem_id=problem_id, verdict=verdict_of(verdict), attempt=attempt, plan=None)
    return Entry(seq=seq, epoch=epoch, seconds=seconds, event=event)


READERS: dict[str, Callable[[Row], Entry]] = {
    "proposed": read_proposed,
    "sampled": read_sampled,
    "unsampled": read_unsampled,
    "judged": read_judged,
    "ended": read_ended,
    "confirmed": read_confirmed,
}


def _proposal(proposal_id: str, operator: str, parents: str) -> Proposal:
    return Proposal(id=proposal_id, operator=Operator(operator), parents=parents_of(parents))
