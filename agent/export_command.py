"""The command `export`: writes a run's events as CSV or Parquet.

Knows nothing of what the columns mean. A file appears under its name only when it is whole.
"""

from __future__ import annotations

import contextlib
import csv
import os
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

from agent.config_section import ConfigError
from agent.event_table import COLUMNS, TEXT_COLUMNS, Cell, Column, Kind, Row, rows
from agent.ledger import Ledger
from agent.run_folder import RunFolder

ROWS_A_GROUP = 20_000  # held in memory at a time for Parquet


def export(folder: RunFolder, *, parquet: bool, texts: bool, out: Path | None) -> Path:
    """Where it was written. Raises LedgerError, and ConfigError where pyarrow is missing or the file cannot be made."""
    if parquet and find_spec("pyarrow") is None:
        raise ConfigError("export --parquet needs pyarrow: pip install 'kernelloop[parquet]'; --csv needs nothing")
    path = out or folder.root / ("events.parquet" if parquet else "events.csv")
    columns = COLUMNS + (TEXT_COLUMNS if texts else ())
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    write = write_parquet if parquet else write_csv
    try:
        with Ledger.open_read_only(folder.ledger) as ledger:
            write(temporary, columns=columns, rows=rows(ledger, texts=texts))
        temporary.replace(path)
    except OSError as error:
        why = f"cannot be written: {error.strerror}; name another place with --out FILE"
        raise ConfigError(f"export: {path}: {why}") from error
    finally:
        with contextlib.suppress(OSError):  # a read-only disk refuses this too, and has been complained of
            temporary.unlink(missing_ok=True)
    return path


def write_csv(path: Path, *, columns: tuple[Column, ...], rows: Iterable[Row]) -> None:
    """UTF-8, a header, `\\n` between rows; an absent value is an empty cell, truth is `true` or `false`."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([column.name for column in columns])
        for row in rows:
            writer.writerow([_csv_cell(row.get(column.name)) for column in columns])


def _csv_cell(cell: Cell) -> Cell:
    return str(cell).lower() if isinstance(cell, bool) else cell


def write_parquet(path: Path, *, columns: tuple[Column, ...], rows: Iterable[Row]) -> None:
    """Row groups of `ROWS_A_GROUP`, so that a large run fits in memory."""
    import pyarrow
    from pyarrow import parquet

    types = {
        Kind.TEXT: pyarrow.string(),
        Kind.WHOLE: pyarrow.int64(),
        Kind.NUMBER: pyarrow.float64(),
        Kind.TRUTH: pyarrow.bool_(),
    }
    schema: Any = pyarrow.schema([(column.name, types[column.kind]) for column in columns])
    with parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        for group in _groups(iter(rows)):
            values = {column.name: [row.get(column.name) for row in group] for column in columns}
            writer.write_table(pyarrow.table(values, schema=schema))


def _groups(rows: Iterator[Row]) -> Iterator[list[Row]]:
    while group := list(islice(rows, ROWS_A_GROUP)):
        yield group
