"""Whether a configuration's model can be sampled: its checkpoint's files, tokens and templates, and what runs it.

Loads no weights and asks no server. Each thing that is wrong comes with what mends it.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from agent.checkpoint import CONFIG, Checkpoint, CheckpointError, locate, read_checkpoint, read_mapping
from agent.config import load_config
from agent.config_section import ConfigError
from agent.doctor import Finding, State
from agent.engine_check import engine_findings
from agent.engine_config import EngineConfig
from agent.prompts import CHECKPOINT_MODULE, CHECKPOINT_TEXT, PromptError, carries_template, read_operator_templates
from agent.sampler import RecordingError, SamplerRefused
from agent.sampler_config import (
    HttpSamplerConfig,
    LocalModelSection,
    SamplerConfig,
    TransformersSamplerConfig,
    VllmSamplerConfig,
)
from agent.sampling import check_sampler, context_of, limit_of, open_prompt_writer
from agent.tokens import Tokens
from sandbox.types import Operator, Problem, Proposal

INDEX = "model.safetensors.index.json"
NUM_SHOWN_TOKENS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Sections:
    """What a configuration says that bears on sampling. `on_cluster`: engines run where `ray.address` says."""

    sampler: SamplerConfig
    engine: EngineConfig
    on_cluster: bool


def sections_of(config_path: Path | None, *, model: str | None) -> Sections:
    """Those to look at. Raises ConfigError."""
    if (config_path is None) == (model is None):
        raise ConfigError("doctor: give either CONFIG.yaml or --model FOLDER")
    if config_path is not None:
        config = load_config(config_path)
        return Sections(sampler=config.sampler, engine=config.engine, on_cluster=config.ray.address is not None)
    assert model is not None
    sampler = TransformersSamplerConfig(kind="transformers", model=model, max_tokens=1)
    return Sections(sampler=sampler, engine=EngineConfig(), on_cluster=False)


def examine(sections: Sections) -> list[Finding]:
    """Everything there is to say of them, in the order shown."""
    config, engine = sections.sampler, sections.engine
    findings = [Finding(name="sampler", found=config.kind, state=State.OK)]
    if isinstance(config, VllmSamplerConfig):
        on_cluster = sections.on_cluster
        return [*findings, *engine_findings(engine, on_cluster=on_cluster), *local_model(config, engine=engine)]
    if isinstance(config, LocalModelSection):
        return [*findings, transformers(), *local_model(config, engine=engine)]
    mend = "mend `sampler` in the configuration"
    findings.append(attempt("settings", lambda: settings(config, engine=engine), remedy=mend))
    if isinstance(config, HttpSamplerConfig):
        findings += [
            attempt("prompts", lambda: room_of(config, engine=engine), remedy="lower sampler.max_tokens"),
            attempt("template", lambda: template_of(config, engine=engine), remedy="see sampler.template"),
        ]
    return each_cause_once(findings)


def transformers() -> Finding:
    """The package that runs the model, found but not imported: that takes seconds."""
    if importlib.util.find_spec("transformers") is None:
        mended = "pip install 'transformers>=4.57,<6'"
        return Finding(name="engine", found="transformers is not installed", state=State.MISSING, consequence=mended)
    try:
        found = version("transformers")
    except PackageNotFoundError:
        found = "of unknown version"
    return Finding(name="engine", found=f"transformers {found}", state=State.OK)


def local_model(config: LocalModelSection, *, engine: EngineConfig) -> list[Finding]:
    try:
        checkpoint = read_checkpoint(locate(config.model))
    except CheckpointError as error:
        remedy = "sampler.model: a folder with the files of a Hugging Face checkpoint"
        return [Finding(name="checkpoint", found=str(error), state=State.MISSING, consequence=remedy)]
    mend = "take the file from the model's own repository"
    return each_cause_once(
        [
            Finding(name="checkpoint", found=f"{checkpoint.architecture} in {checkpoint.folder}", state=State.OK),
            attempt("weights", lambda: weights_of(checkpoint.folder), remedy=mend),
            attempt("tokeniser", lambda: tokens_of(checkpoint, config=config), remedy=mend),
            attempt("context", lambda: room_of(config, engine=engine), remedy="lower sampler.max_tokens"),
            *attention(checkpoint, config=config),
            attempt(
                "ends an answer", lambda: ending_of(checkpoint, config=config), remedy="see generation_config.json"
            ),
            attempt(
                "template",
                lambda: template_of(config, engine=engine),
                remedy="one {} for the problem; or name sampler.template",
            ),
            attempt("begin of text", lambda: bos_of(config, engine=engine), remedy="sampler.bos: as_shipped or none"),
        ]
    )


def each_cause_once(findings: list[Finding]) -> list[Finding]:
    """Those that are wrong for a reason told before, in one line that names them: nothing is known of them yet.

    So what others build on has to come before them.
    """
    kept: list[Finding] = []
    unknown: list[str] = []
    causes: set[str] = set()
    for finding in findings:
        if finding.state is State.MISSING and finding.found in causes:
            unknown.append(finding.name)
            continue
        kept.append(finding)
        if finding.state is State.MISSING:
            causes.add(finding.found)
    if unknown:
        after = "mend what is missing above first"
        kept.append(Finding(name="not looked at", found=", ".join(unknown), state=State.LIMITED, consequence=after))
    return kept


def attempt(name: str, look: Callable[[], str], *, remedy: str) -> Finding:
    """What `look` says, or what is wrong and how to mend it."""
    try:
        return Finding(name=name, found=look(), state=State.OK)
    except (CheckpointError, ConfigError, PromptError, RecordingError, SamplerRefused) as error:
        return Finding(name=name, found=str(error), state=State.MISSING, consequence=remedy)


def settings(config: SamplerConfig, *, engine: EngineConfig) -> str:
    check_sampler(config, engine=engine)
    return config.base_url if isinstance(config, HttpSamplerConfig) else config.kind


def weights_of(folder: Path) -> str:
    """Raises CheckpointError if a file of weights is not there, or is a stand-in that git left for a large one."""
    names = ["model.safetensors"]
    if (folder / INDEX).exists():
        names = sorted({str(name) for name in read_mapping(folder / INDEX).get("weight_map", {}).values()})
    num_bytes = 0
    for name in names:
        path = folder / name
        if not path.is_file():
            raise CheckpointError(f"{path}: is missing")
        num_bytes += path.stat().st_size
        with path.open("rb") as file:
            if file.read(8).startswith(b"version "):
                raise CheckpointError(f"{path}: is a pointer of git-lfs, not the weights")
    return f"{len(names)} file(s), {num_bytes / 2**20:.1f} MiB"


def room_of(config: HttpSamplerConfig | LocalModelSection, *, engine: EngineConfig) -> str:
    """How long prompts may be, and what bounds them."""
    limit, context = limit_of(config, engine=engine), context_of(config, engine=engine)
    if context is None:
        return f"{limit.most} {limit.unit} at most"
    said = "" if context.key is None else f" ({context.key})"
    room = f", {limit.most} of them for a prompt" if config.max_tokens > 1 else ""
    return f"{context.tokens} tokens{said}{room}"


def attention(checkpoint: Checkpoint, *, config: LocalModelSection) -> list[Finding]:
    if checkpoint.full_attention or not isinstance(config, TransformersSamplerConfig):
        return []
    lost = "sampler.kind: transformers does full attention only; use vllm"
    return [Finding(name="attention", found="in a window", state=State.MISSING, consequence=lost)]


def tokens_of(checkpoint: Checkpoint, *, config: LocalModelSection) -> str:
    num_tokens = Tokens(checkpoint.folder, bos="none").num_tokens
    num_known = read_mapping(checkpoint.folder / CONFIG).get("vocab_size")
    if isinstance(num_known, int) and num_tokens > num_known:
        raise CheckpointError(f"{checkpoint.folder}: the tokeniser has {num_tokens} tokens, and the model {num_known}")
    return f"{num_tokens} tokens"


def ending_of(checkpoint: Checkpoint, *, config: LocalModelSection) -> str:
    tokens = Tokens(checkpoint.folder, bos="none")
    ids = sorted(checkpoint.eos_ids)
    shown = ", ".join(f"{id} {tokens.name(id)}" for id in ids[:NUM_SHOWN_TOKENS])
    return shown + (f" and {len(ids) - NUM_SHOWN_TOKENS} more" if len(ids) > NUM_SHOWN_TOKENS else "")


def template_of(config: HttpSamplerConfig | LocalModelSection, *, engine: EngineConfig) -> str:
    """Where the text of a draft comes from, and what of the others is not the package's."""
    open_prompt_writer(config, engine=engine)
    checkpoint = locate(config.model) if isinstance(config, LocalModelSection) else None
    if config.template is not None:
        draft = config.template
    elif checkpoint is not None and carries_template(checkpoint):
        held = [name for name in (CHECKPOINT_TEXT, CHECKPOINT_MODULE) if (checkpoint / name).is_file()]
        draft = f"the checkpoint's {held[0]}"
    else:
        draft = "the package's own"
    folders = [Path(folder) for folder in (config.operator_templates, checkpoint) if folder is not None]
    others = sorted({f"{operator}.txt" for folder in folders for operator in read_operator_templates(folder)})
    return draft + (f"; {', '.join(others)} besides" if others else "")


def bos_of(config: LocalModelSection, *, engine: EngineConfig) -> str:
    """How a prompt begins, as it is sent."""
    nothing = Problem(id="nothing", source="pass", origin="doctor")
    draft = Proposal(id="draft", operator=Operator.DRAFT, parents=())
    tokens = Tokens(locate(config.model), bos=config.bos)
    ids = tokens.encode(open_prompt_writer(config, engine=engine).render(nothing, draft, ()))
    num_bos = sum(id == tokens.bos_id for id in ids)
    shown = " ".join(tokens.name(id) for id in ids[:NUM_SHOWN_TOKENS])
    return f"{config.bos}: {num_bos} in a prompt, which begins {shown}"
