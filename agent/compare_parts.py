"""What a section of an experiment's page is made of, the same for Markdown and HTML. Knows nothing of what it says."""

from __future__ import annotations

from dataclasses import dataclass

from agent.html_charts import ChartView


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """The first cell of a row is its name."""

    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A section: `notes` come before its tables and charts, `facts` after them as a list. `drawings` are charts whose
    figures stand in another table of the section, so that Markdown does without."""

    id: str
    title: str
    notes: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    charts: tuple[ChartView, ...] = ()
    drawings: tuple[ChartView, ...] = ()
    facts: tuple[str, ...] = ()
