"""A ledger's file: its lock, its schema, its transactions and its errors.

Knows nothing of what the tables hold.
"""

from __future__ import annotations

import errno
import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agent.ledger_rows import SCHEMA, SCHEMA_VERSION


class LedgerError(RuntimeError):
    """The ledger cannot be opened, read or written; the message is one line."""


class LedgerInUse(LedgerError):
    """Another process is writing this ledger."""


class NoLedger(LedgerError):
    """There is no such file: nothing was done yet."""


class LedgerNotWritable(LedgerError):
    """Somebody else's run, or one on a disk that is read only: the user's to mend."""


class ResumeError(LedgerError):
    """What the ledger holds does not fit the run that is to go on: the user's to mend."""


def lock(path: Path) -> int:
    """The descriptor that holds the lock.

    A POSIX record lock, because a child that is forked without exec inherits a `flock` and would outlive us with it.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        kind = LedgerNotWritable if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS) else LedgerError
        raise kind(f"{path}: cannot be written: {error.strerror}") from error
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise LedgerInUse(f"{path}: another process is writing this run") from error
    return descriptor


def make_or_check_schema(connection: sqlite3.Connection, *, path: Path) -> None:
    if connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0] > 0:
        check_schema(connection, path=path)
        return
    for statement in SCHEMA.split(";"):
        connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def check_schema(connection: sqlite3.Connection, *, path: Path) -> None:
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version != SCHEMA_VERSION:
        raise LedgerError(f"{path}: has schema version {version}; this KernelLoop reads version {SCHEMA_VERSION}")


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


@contextmanager
def named_errors(path: Path) -> Iterator[None]:
    """What SQLite complains of becomes LedgerError."""
    try:
        yield
    except sqlite3.Error as error:
        name = getattr(error, "sqlite_errorname", "")  # what Python's own module complains of has none
        if name == "SQLITE_CANTOPEN" and not path.exists():
            raise NoLedger(f"{path.parent}: has no {path.name}: the run had not begun") from error
        if name.startswith("SQLITE_READONLY"):
            raise LedgerNotWritable(f"{path}: cannot be written: {error}") from error
        raise LedgerError(f"{path}: {error}") from error


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """The same, also for a record that is not what was written."""
    try:
        with named_errors(path):
            yield
    except (ValueError, KeyError, TypeError) as error:
        raise LedgerError(f"{path}: a record cannot be read: {type(error).__name__}: {error}") from error
