"""The append-only record of a run in SQLite: what was proposed, sampled, judged and ended, durable before it counts.

Knows nothing of strategies, budgets or of what to do next. Resuming is replaying `events()`.
"""

from __future__ import annotations

import heapq
import os
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from agent import wording
from agent.events import Attempt, Confirmed, DurableEvent, Judged, Proposed, Sampled, SearchEnded, Transcript, Unsampled
from agent.ledger_file import (
    LedgerError,
    LedgerInUse,
    ResumeError,
    check_schema,
    lock,
    make_or_check_schema,
    named_errors,
    reading,
    transaction,
)
from agent.ledger_rows import (
    JOURNAL,
    READERS,
    Entry,
    parents_of,
    parents_text,
    token_bytes,
    tokens_of,
    verdict_of,
    verdict_text,
)
from agent.tuning import Tried
from sandbox.types import Candidate, Observation, Operator, Proposal

__all__ = ["Ledger", "LedgerError", "LedgerInUse", "ResumeError", "confirming", "judging", "sampling"]

CACHE = "cache_size = -65536"  # KiB; holds the indexes of 100,000 candidates, SQLite's own 2 MiB do not


def sampling(problem_id: str, proposal: Proposal) -> str:
    """The name of the work of sampling one proposal, for attempts."""
    return f"sample {problem_id} {proposal.id}"


def judging(candidate_id: str) -> str:
    """The name of the work of judging one candidate, for attempts."""
    return f"judge {candidate_id}"


def confirming(candidate_id: str) -> str:
    """The name of the work of confirming one candidate, for attempts."""
    return f"confirm {candidate_id}"


class Ledger:
    """One run's events. Writing and closing may come from any thread; reading must not overlap with writing.

    A method that writes returns when its transaction is on disk. Every method may raise LedgerError.
    """

    def __init__(
        self, connection: sqlite3.Connection, *, path: Path, epoch: int, next_seq: int, lock_descriptor: int | None
    ) -> None:
        """Use `open` or `open_read_only`."""
        self._path = path
        self._connection = connection
        self._epoch = epoch
        self._next_seq = next_seq
        self._lock_descriptor = lock_descriptor
        self._turn = threading.Lock()  # so that closing waits for a transaction under way

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """The only writer of the ledger at `path`, made if absent. Begins an epoch and closes attempts left open.

        Raises LedgerInUse while another process has it open for writing.
        """
        path = Path(path)
        with ExitStack() as undo, named_errors(path):
            lock_descriptor = lock(path.with_name(path.name + ".lock"))
            undo.callback(os.close, lock_descriptor)
            connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            undo.callback(connection.close)
            for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON", CACHE):
                connection.execute(f"PRAGMA {pragma}")
            with transaction(connection):
                make_or_check_schema(connection, path=path)
                connection.execute("UPDATE attempts SET ended = 'orphaned' WHERE ended IS NULL")
                epoch = connection.execute("INSERT INTO epochs DEFAULT VALUES RETURNING epoch").fetchone()[0]
            queries = (f"SELECT ifnull(max(seq), 0) FROM {table}" for table in JOURNAL)
            last_seq = max(connection.execute(query).fetchone()[0] for query in queries)
            undo.pop_all()
        return cls(connection, path=path, epoch=epoch, next_seq=last_seq + 1, lock_descriptor=lock_descriptor)

    @classmethod
    def open_read_only(cls, path: str | Path) -> Self:
        """For reports, also while another process writes."""
        path = Path(path)
        with ExitStack() as undo, named_errors(path):
            connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)
            undo.callback(connection.close)
            connection.execute(f"PRAGMA {CACHE}")
            check_schema(connection, path=path)
            epoch = connection.execute("SELECT ifnull(max(epoch), 0) FROM epochs").fetchone()[0]
            undo.pop_all()
        return cls(connection, path=path, epoch=epoch, next_seq=0, lock_descriptor=None)

    def close(self) -> None:
        """May be called twice."""
        with self._turn:
            self._connection.close()
            if self._lock_descriptor is not None:
                os.close(self._lock_descriptor)
                self._lock_descriptor = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def epoch(self) -> int:
        return self._epoch

    def append(self, events: Sequence[DurableEvent], *, seconds: float) -> None:
        """Makes `events` durable, all or none. `seconds` is the time since this epoch began.

        A proposal begins an attempt to sample it, the first answer that holds a candidate an attempt to judge it, both
        with number 1 of this epoch. A result ends its attempt; one whose attempt is not open is refused.
        """
        with self._turn, named_errors(self._path), transaction(self._connection):
            for seq, event in enumerate(events, start=self._next_seq):
                self._insert(event, stamp=(seq, self._epoch, seconds))
            self._next_seq += len(events)

    def begin_attempts(self, works: Sequence[str]) -> list[Attempt]:
        """New attempts at work that an earlier epoch left undone, numbered on from its last."""
        attempts = []
        with self._turn, named_errors(self._path), transaction(self._connection):
            for work in works:
                query = "SELECT ifnull(max(number), 0) FROM attempts WHERE work = ?"
                number = 1 + self._connection.execute(query, (work,)).fetchone()[0]
                attempts.append(Attempt(epoch=self._epoch, number=number))
                self._begin(work, attempt=attempts[-1])
        return attempts

    def record_problems(self, keys: Mapping[str, str]) -> None:
        """Records the problems' keys by id at a run's start. Raises ResumeError if it holds others."""
        known = self.problem_keys()
        if known and known != dict(keys):
            told = f"the run was begun with other problems ({_differences(known, keys)})"
            raise ResumeError(f"{told}; a resume needs the same")
        if not known:
            with self._turn, named_errors(self._path), transaction(self._connection):
                self._connection.executemany("INSERT INTO problems VALUES (?, ?)", keys.items())

    def problem_keys(self) -> dict[str, str]:
        with reading(self._path):
            return dict(self._connection.execute("SELECT id, key FROM problems"))

    def best(self) -> dict[str, str]:
        """Ids of the best passed candidates so far, by problem id."""
        with reading(self._path):
            return dict(self._connection.execute("SELECT problem_id, candidate_id FROM best"))

    def events(self) -> Iterator[Entry]:
        """Every event in order, without transcripts."""
        with reading(self._path):
            streams = (map(READERS[table], self._connection.execute(query)) for table, query in JOURNAL.items())
            yield from heapq.merge(*streams, key=lambda entry: entry.seq)

    def transcript(self, problem_id: str, proposal: Proposal) -> Transcript | None:
        """What was sent and answered for one proposal; None if it is not sampled."""
        query = (
            "SELECT prompt, completion, token_ids FROM transcripts NATURAL JOIN sampled "
            "WHERE problem_id = ? AND proposal_id = ?"
        )
        with reading(self._path):
            row = self._connection.execute(query, (problem_id, proposal.id)).fetchone()
            return None if row is None else Transcript(prompt=row[0], completion=row[1], token_ids=tokens_of(row[2]))

    def observation(self, candidate_id: str) -> Observation:
        """A judged candidate, as it was first sampled. Raises LedgerError if there is no verdict on it."""
        query = """
            SELECT c.problem_id, c.operator, c.parents, c.truncated, c.source, j.verdict
            FROM candidates c JOIN judged j ON j.candidate_id = c.id WHERE c.id = ?"""
        with reading(self._path):
            row = self._connection.execute(query, (candidate_id,)).fetchone()
            if row is None:
                raise LedgerError(f"{self._path}: holds no verdict on candidate {candidate_id}")
            problem_id, operator, parents, truncated, source, verdict = row
            candidate = Candidate(
                problem_id=problem_id,
                source=source,
                operator=Operator(operator),
                parent_ids=parents_of(parents),
                truncated=bool(truncated),
            )
            return Observation(candidate=candidate, verdict=verdict_of(verdict))

    def tuned_from(self, problem_id: str, parent_id: str) -> list[Tried]:
        """What was tuned from a candidate, in the order in which it was made."""
        query = """
            SELECT c.source, j.verdict FROM proposed p
            JOIN sampled s ON s.problem_id = p.problem_id AND s.proposal_id = p.proposal_id
            JOIN candidates c ON c.id = s.candidate_id LEFT JOIN judged j ON j.candidate_id = c.id
            WHERE p.problem_id = ? AND p.operator = ? AND p.parents = ? ORDER BY s.seq"""
        with reading(self._path):
            rows = self._connection.execute(query, (problem_id, Operator.TUNE, parents_text((parent_id,))))
            return [Tried(source=s, verdict=None if v is None else verdict_of(v)) for s, v in rows]

    def _insert(self, event: DurableEvent, *, stamp: tuple[int, int, float]) -> None:
        match event:
            case Proposed(problem_id=problem_id, proposal=p):
                row = (*stamp, problem_id, p.id, p.operator, parents_text(p.parents))
                self._connection.execute(f"INSERT INTO proposed VALUES {_slots(row)}", row)
                self._begin(sampling(problem_id, p), attempt=Attempt(epoch=self._epoch, number=1))
            case Sampled():
                self._insert_sampled(event, stamp=stamp)
            case Unsampled(problem_id=problem_id, proposal=p, attempt=attempt, reason=reason):
                self._end(sampling(problem_id, p), attempt=attempt, how="unsampled")
                unsampled = (*stamp, problem_id, p.id, attempt.number, reason)
                self._connection.execute(f"INSERT INTO unsampled VALUES {_slots(unsampled)}", unsampled)
            case Judged():
                self._insert_judged(event, stamp=stamp)
            case Confirmed(problem_id=problem_id, verdict=verdict, attempt=attempt):
                self._end(confirming(verdict.candidate_id), attempt=attempt, how=verdict.status)
                ids = (problem_id, verdict.candidate_id, attempt.number)
                confirmed = (*stamp, *ids, verdict.status, verdict.speedup, verdict_text(verdict))
                self._connection.execute(f"INSERT INTO confirmed VALUES {_slots(confirmed)}", confirmed)
            case SearchEnded(problem_id=problem_id, end=end, detail=detail):
                ended = (*stamp, problem_id, end, detail)
                self._connection.execute(f"INSERT INTO ended VALUES {_slots(ended)}", ended)

    def _insert_sampled(self, event: Sampled, *, stamp: tuple[int, int, float]) -> None:
        self._end(sampling(event.problem_id, event.proposal), attempt=event.attempt, how="sampled")
        if event.transcript is None:
            raise ValueError("a sampled event is recorded with its transcript")
        c = event.candidate
        row = (c.id, c.problem_id, c.operator, parents_text(c.parent_ids), c.truncated, c.source)
        query = f"INSERT INTO candidates VALUES {_slots(row)} ON CONFLICT (id) DO NOTHING"
        if self._connection.execute(query, row).rowcount == 1:
            self._begin(judging(c.id), attempt=Attempt(epoch=self._epoch, number=1))
        counts = (
            event.finish_reason,
            event.prompt_tokens,
            event.completion_tokens,
            event.tokens_estimated,
            event.sampler,
        )
        ids = (event.problem_id, event.proposal.id, event.attempt.number, c.id, c.truncated, event.seed)
        sampled = (*stamp, *ids, *counts)
        self._connection.execute(f"INSERT INTO sampled VALUES {_slots(sampled)}", sampled)
        said = event.transcript
        texts = (stamp[0], said.prompt, said.completion, token_bytes(said.token_ids))
        self._connection.execute(f"INSERT INTO transcripts VALUES {_slots(texts)}", texts)

    def _insert_judged(self, event: Judged, *, stamp: tuple[int, int, float]) -> None:
        """Result, end of attempt and best so far stand or fall together. Of equals, the first stays best."""
        verdict, ids = event.verdict, (event.problem_id, event.verdict.candidate_id)
        self._end(judging(verdict.candidate_id), attempt=event.attempt, how=verdict.status)
        row = (*stamp, *ids, event.attempt.number, verdict.status, verdict.speedup, verdict_text(verdict))
        self._connection.execute(f"INSERT INTO judged VALUES {_slots(row)}", row)
        if verdict.passed:
            query = """
                INSERT INTO best VALUES (?, ?, ?) ON CONFLICT (problem_id) DO UPDATE
                SET candidate_id = excluded.candidate_id, speedup = excluded.speedup WHERE excluded.speedup > speedup"""
            self._connection.execute(query, (*ids, verdict.speedup))

    def _begin(self, work: str, *, attempt: Attempt) -> None:
        self._connection.execute("INSERT INTO attempts VALUES (?, ?, ?, NULL)", (work, attempt.epoch, attempt.number))

    def _end(self, work: str, *, attempt: Attempt, how: str) -> None:
        query = "UPDATE attempts SET ended = ? WHERE work = ? AND epoch = ? AND number = ? AND ended IS NULL"
        if self._connection.execute(query, (how, work, attempt.epoch, attempt.number)).rowcount != 1:
            raise LedgerError(
                f"{work}: attempt {attempt.number} of epoch {attempt.epoch} is not open; its result is refused"
            )


def _differences(known: Mapping[str, str], keys: Mapping[str, str]) -> str:
    """What became of the problems `known`, where `keys` are those of now."""
    ids = {
        "added": keys.keys() - known.keys(),
        "gone": known.keys() - keys.keys(),
        "changed": {id for id in known.keys() & keys.keys() if known[id] != keys[id]},
    }
    return "; ".join(f"{what}: {wording.names_text(sorted(those))}" for what, those in ids.items() if those)


def _slots(row: tuple[object, ...]) -> str:
    return f"({', '.join('?' * len(row))})"
