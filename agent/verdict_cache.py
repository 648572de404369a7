"""The verdicts of an experiment in SQLite: a program that several cells come by is judged once, also over a resume.

A verdict is known by problem, program and judge settings. Who asked for which is on record, so that hits can be counted
and a cell is charged what it would have been charged alone. Knows nothing of pools.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import zlib
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Self

from agent.ledger_file import lock, named_errors, transaction
from agent.ledger_rows import verdict_of, verdict_text
from agent.pool import Confirmation
from sandbox.settings import JudgeSettings
from sandbox.types import Candidate, Problem, Verdict, content_hash

SCHEMA = """
CREATE TABLE IF NOT EXISTS verdicts (
    kind TEXT NOT NULL, problem_key TEXT NOT NULL, candidate_id TEXT NOT NULL, settings TEXT NOT NULL,
    plan_hash TEXT, verdict TEXT NOT NULL, plan BLOB,
    PRIMARY KEY (kind, problem_key, candidate_id, settings)
) STRICT;
CREATE INDEX IF NOT EXISTS verdicts_by_plan ON verdicts (problem_key, plan_hash);
CREATE TABLE IF NOT EXISTS asked (
    cell TEXT NOT NULL, kind TEXT NOT NULL, problem_key TEXT NOT NULL, candidate_id TEXT NOT NULL, hit INTEGER NOT NULL,
    PRIMARY KEY (cell, kind, problem_key, candidate_id)
) STRICT"""


class Kind(StrEnum):
    """What a program was judged for."""

    SEARCH = "search"
    CONFIRM = "confirm"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """How often a cell's searches and confirmations asked for a verdict, and how often it was there already."""

    num: int
    num_hits: int


class VerdictCache:
    """One experiment's, and one process's: a second one is refused. Every method may raise LedgerError."""

    def __init__(self, connection: sqlite3.Connection, *, path: Path, settings: str, lock_descriptor: int) -> None:
        """Use `open`."""
        self._connection = connection
        self._path = path
        self._settings = settings
        self._lock_descriptor = lock_descriptor
        self._turn = threading.Lock()

    @classmethod
    def open(cls, path: Path, *, settings: JudgeSettings) -> Self:
        """Made if absent. Raises LedgerInUse while another process has it."""
        with ExitStack() as undo, named_errors(path):
            lock_descriptor = lock(path.with_name(path.name + ".lock"))
            undo.callback(os.close, lock_descriptor)
            connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            undo.callback(connection.close)
            for statement in ("PRAGMA journal_mode = WAL", "PRAGMA synchronous = FULL", *SCHEMA.split(";")):
                connection.execute(statement)
            undo.pop_all()
        digest = content_hash(json.dumps(asdict(settings), sort_keys=True))
        return cls(connection, path=path, settings=digest, lock_descriptor=lock_descriptor)

    def close(self) -> None:
        with self._turn:
            self._connection.close()
            os.close(self._lock_descriptor)

    def find(self, kind: Kind, problem: Problem, candidate: Candidate) -> Confirmation | None:
        """What is known of a program; None where nothing is."""
        query = "SELECT verdict, plan FROM verdicts WHERE (kind, problem_key, candidate_id, settings) = (?, ?, ?, ?)"
        with self._turn, named_errors(self._path):
            row = self._connection.execute(query, self._key(kind, problem, candidate)).fetchone()
        if row is None:
            return None
        return Confirmation(verdict=verdict_of(row[0]), plan=None if row[1] is None else zlib.decompress(row[1]))

    def keep(self, kind: Kind, problem: Problem, candidate: Candidate, found: Confirmation) -> Confirmation:
        """Durable when this returns; gives what is kept: with the cost of the first judging of an equal plan, since who
        is judged second is told a verdict that cost nothing."""
        verdict, plan = found.verdict, found.plan
        with self._turn, named_errors(self._path), transaction(self._connection):
            verdict = self._at_full_cost(kind, problem, verdict)
            packed = None if plan is None else zlib.compress(plan)
            row = (*self._key(kind, problem, candidate), verdict.plan_hash, verdict_text(verdict), packed)
            self._connection.execute("INSERT OR IGNORE INTO verdicts VALUES (?, ?, ?, ?, ?, ?, ?)", row)
        return Confirmation(verdict=verdict, plan=plan)

    def charge(self, cell: str, kind: Kind, problem: Problem, found: Confirmation, *, hit: bool) -> Confirmation:
        """Notes that `cell` asked, and gives what it is told: GPU time is charged for the first of its programs with a
        plan, as it would be if the cell were alone."""
        verdict = found.verdict
        with self._turn, named_errors(self._path), transaction(self._connection):
            if verdict.plan_hash is not None and self._has_asked(cell, kind, problem, verdict):
                verdict = replace(verdict, spend=replace(verdict.spend, gpu_seconds=0.0))
            row = (cell, kind, problem.key, verdict.candidate_id, int(hit))
            self._connection.execute("INSERT OR IGNORE INTO asked VALUES (?, ?, ?, ?, ?)", row)
        return replace(found, verdict=verdict)

    def asked(self, kind: Kind) -> Mapping[str, Asked]:
        """By cell."""
        with self._turn, named_errors(self._path):
            query = "SELECT cell, count(*), sum(hit) FROM asked WHERE kind = ? GROUP BY cell"
            rows = self._connection.execute(query, (kind,)).fetchall()
        return {cell: Asked(num=num, num_hits=num_hits) for cell, num, num_hits in rows}

    def _key(self, kind: Kind, problem: Problem, candidate: Candidate) -> tuple[str, str, str, str]:
        return kind, problem.key, candidate.id, self._settings

    def _at_full_cost(self, kind: Kind, problem: Problem, verdict: Verdict) -> Verdict:
        if verdict.plan_hash is None:
            return verdict
        query = """
            SELECT verdict FROM verdicts WHERE problem_key = ? AND plan_hash = ? AND kind = ? AND settings = ?
            ORDER BY rowid LIMIT 1"""
        key = (problem.key, verdict.plan_hash, kind, self._settings)
        if (row := self._connection.execute(query, key).fetchone()) is None:
            return verdict
        return replace(verdict, spend=replace(verdict.spend, gpu_seconds=verdict_of(row[0]).spend.gpu_seconds))

    def _has_asked(self, cell: str, kind: Kind, problem: Problem, verdict: Verdict) -> bool:
        """For another program with the plan of this one."""
        query = """
            SELECT 1 FROM asked NATURAL JOIN verdicts
            WHERE cell = ? AND kind = ? AND problem_key = ? AND plan_hash = ? AND candidate_id != ? AND settings = ?"""
        key = (cell, kind, problem.key, verdict.plan_hash, verdict.candidate_id, self._settings)
        return self._connection.execute(query, key).fetchone() is not None
