"""Writes what an experiment came to: `compare.md`, `compare.html` (one file that needs nothing else), `cells.csv`.

Decides nothing about it. The HTML page has no script: it is text, tables and drawings.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence

from markupsafe import Markup

from agent.compare_parts import Part
from agent.compare_sections import headline, parts_of
from agent.experiment_folder import ExperimentFolder
from agent.experiment_results import Results
from agent.html_page import page_environment, page_policy, template_text
from agent.report import row
from agent.source_view import visible


def write_pages(results: Results, *, folder: ExperimentFolder) -> None:
    """Raises RunFolderError."""
    parts = list(parts_of(results))
    title = results.experiment.path.stem
    told = headline(results)
    folder.write(folder.page, markdown(parts, title=title, told=told))
    folder.write(folder.html_page, html(parts, title=title, told=told))
    folder.write(folder.rows, csv_text(results))


def markdown(parts: Sequence[Part], *, title: str, told: str) -> str:
    return "\n".join(_markdown_lines(parts, title=title, told=told)) + "\n"


def html(parts: Sequence[Part], *, title: str, told: str) -> str:
    style = template_text("report.css")
    page = page_environment().get_template("compare.html")
    return page.render(
        title=visible(title),
        told=told,
        parts=parts,
        sections=tuple((part.id, part.title) for part in parts),
        style=Markup(style),
        policy=page_policy(style=style, script=None),
    )


def csv_text(results: Results) -> str:
    """A row for each search."""
    rows = list(results.rows())
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _markdown_lines(parts: Sequence[Part], *, title: str, told: str) -> Iterator[str]:
    yield from (f"# {title}", "", f"{told}.")
    for part in parts:
        yield from ("", f"## {part.title}")
        for note in part.notes:
            yield from ("", note)
        for table in part.tables:
            yield from ("", f"{table.caption}.", "")
            yield from _markdown_table(table.head, table.rows)
        for chart in part.charts:
            yield from ("", f"{chart.name}.", "")
            yield from _markdown_table(chart.head, chart.rows)
        if part.facts:
            yield ""
            yield from (f"- {visible(fact)}" for fact in part.facts)


def _markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield row(*head)
    yield row(*("---" for _ in head))
    yield from (row(*cells) for cells in rows)
