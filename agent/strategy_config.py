"""The strategy's part of a run configuration: one section for each strategy. Knows nothing of how they are used."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from agent.config_section import Count, Positive, PositiveFloat, Section

Share = Annotated[float, Field(ge=0, le=1)]


class BestOfNConfig(Section):
    """Options of `strategies.BestOfN`."""

    name: Literal["best_of_n"]
    in_flight: Positive = 8
    stop_when_passed: bool = False
    fix: bool = False  # off, so that n answers of the model are compared with n answers


class RepairConfig(Section):
    """Options of `strategies.Repair`."""

    name: Literal["repair"]
    in_flight: Positive = 4
    max_repairs: Count = 2
    stop_when_passed: bool = False
    fix: bool = True
    tune: Count = 0


class InformedConfig(Section):
    """What strategies share that choose by what they were told. `fix` mends by rule before a model is asked; `tune`
    is how many points of its launch parameters the fastest candidate gets, where candidates are timed."""

    in_flight: Positive = 4
    stop_when_passed: bool = False
    fix: bool = True
    tune: Count = 0


class BeamConfig(InformedConfig):
    """Options of `strategies.Beam`."""

    name: Literal["beam"]
    width: Positive = 2
    branch: Positive = 2
    depth: Count = 3


class EvolveConfig(InformedConfig):
    """Options of `strategies.Evolve`."""

    name: Literal["evolve"]
    islands: Positive = 2
    founders: Positive = 2
    migrate_every: Positive = 8
    draft_share: Share = 0.2
    merge_share: Share = 0.1


class AbMctsConfig(InformedConfig):
    """Options of `strategies.AbMcts`."""

    name: Literal["ab_mcts"]
    virtual_loss: Share = 0.7


MemberConfig = Annotated[
    BestOfNConfig | RepairConfig | BeamConfig | EvolveConfig | AbMctsConfig, Field(discriminator="name")
]


class PortfolioConfig(InformedConfig):
    """Options of `strategies.Portfolio`. `costs` are in drafts, and count as four answers beside
    the tokens that are measured; an operator without one is no arm. What members share
    with the portfolio (`in_flight`, ends, `fix`) is the portfolio's."""

    name: Literal["portfolio"]
    costs: dict[Literal["draft", "repair", "improve", "merge"], PositiveFloat] = Field(
        default={"draft": 1.0, "repair": 1.5, "improve": 1.5, "merge": 2.0}
    )
    members: list[MemberConfig] = Field(default=[])

    @field_validator("costs")
    @classmethod
    def _has_draft(cls, costs: dict[str, float]) -> dict[str, float]:
        if "draft" not in costs:
            raise PydanticCustomError("unbounded", "lacks draft, which every search begins with")
        return costs


StrategyConfig = Annotated[
    BestOfNConfig | RepairConfig | BeamConfig | EvolveConfig | AbMctsConfig | PortfolioConfig,
    Field(discriminator="name"),
]
