"""Where a run's GPU seconds and dollars went, by operator and by problem, as tables of its HTML report.

Knows nothing of the page. What is not known is no column: GPU seconds where none were taken, dollars without prices.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from markupsafe import Markup

from agent.limits import currency_text, number_text
from agent.run_figures import RunFigures
from agent.run_record import RunRecord
from agent.source_view import visible
from agent.svg_chart import share_bar
from sandbox.spend import amount
from sandbox.types import Prices, Spend

CURRENCIES = ("gpu_seconds", "usd")
MAX_PROBLEMS = 40  # the dearest; the rest stands in one row


@dataclass(frozen=True, slots=True, kw_only=True)
class CostTable:
    """`rows` are a name, a cell for each of `columns`, and a bar of the share in the last of them."""

    caption: str
    name: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[str, ...], Markup], ...]


def cost_tables(record: RunRecord, *, figures: RunFigures) -> Iterator[CostTable]:
    """None where nothing has a price and no GPU was used."""
    prices = record.prices.of_a_problem
    by_operator = {operator.operator.value: operator.spend for operator in figures.operators}
    by_problem = {visible(result.problem_id): result.spend for result in record.results}
    total = sum(by_problem.values(), Spend())
    known = tuple(currency for currency in CURRENCIES if amount(currency, total, prices=prices))
    if not known:
        return
    told = " and ".join(currency_text(currency) for currency in known)
    note = "" if record.prices.machine_hour is None else "; the machine's time is the run's and in neither table"
    caption = f"Where {told} went, by operator{note}"
    yield _table(by_operator, caption=caption, name="operator", currencies=known, prices=prices)
    ranked = dict(sorted(by_problem.items(), key=lambda item: -(amount(known[-1], item[1], prices=prices) or 0)))
    caption = f"Where {told} went, by problem, the dearest first"
    yield _table(_cut(ranked), caption=caption, name="problem", currencies=known, prices=prices)


def _cut(ranked: Mapping[str, Spend]) -> Mapping[str, Spend]:
    names = list(ranked)
    if len(names) <= MAX_PROBLEMS:
        return ranked
    kept = {name: ranked[name] for name in names[:MAX_PROBLEMS]}
    rest = sum((ranked[name] for name in names[MAX_PROBLEMS:]), Spend())
    return kept | {f"{len(names) - MAX_PROBLEMS} others": rest}


def _table(
    spends: Mapping[str, Spend], *, caption: str, name: str, currencies: tuple[str, ...], prices: Prices
) -> CostTable:
    found = {who: [amount(c, spend, prices=prices) or 0.0 for c in currencies] for who, spend in spends.items()}
    totals = [sum(column) or 1.0 for column in zip(*found.values(), strict=True)]
    columns = tuple(cell for currency in currencies for cell in (currency_text(currency), "share"))
    rows = tuple(
        (who, tuple(_cells(amounts, totals=totals)), share_bar([("fill on", amounts[-1] / totals[-1])]))
        for who, amounts in found.items()
    )
    return CostTable(caption=caption, name=name, columns=columns, rows=rows)


def _cells(amounts: list[float], *, totals: list[float]) -> Iterator[str]:
    for spent, total in zip(amounts, totals, strict=True):
        yield number_text(spent)
        yield f"{spent / total:.1%}"
