"""Whether a configuration's model can be sampled: its checkpoint's files, tokens and templates, and what runs it.

Loads no weights and asks no server. Each thing that is wrong comes with what mends it.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from agent.checkpoint import CONFIG, Checkpoint, CheckpointError, locate, read_checkpoint, read_mapping
from agent.config import load_config
from agent.config_section import ConfigError
from agent.doctor import Finding, State
from agent.prompts import CHECKPOINT_MODULE, CHECKPOINT_TEXT, PromptError, carries_template, read_operator_templates
from agent.sampler import RecordingError, SamplerRefused
from agent.sampler_config import HttpSamplerConfig, LocalModelSection, SamplerConfig, TransformersSamplerConfig
from agent.sampling import check_sampler, limit_of, open_prompt_writer
from agent.tokens import Tokens
from sandbox.types import Operator, Problem, Proposal

INDEX = "model.safetensors.index.json"
ENGINES = {"transformers": "pip install 'transformers>=4.57,<6'", "vllm": "pip install 'kernelloop[vllm]'"}
NUM_SHOWN_TOKENS = 4


def section_of(config_path: Path | None, *, model: str | None) -> SamplerConfig:
    """The sampler section to look at. Raises ConfigError."""
    if (config_path is None) == (model is None):
        raise ConfigError("doctor: give either CONFIG.yaml or --model FOLDER")
    if config_path is not None:
        return load_config(config_path).sampler
    assert model is not None
    return TransformersSamplerConfig(kind="transformers", model=model, max_tokens=1)


def examine(config: SamplerConfig) -> list[Finding]:
    """Everything there is to say of the section, in the order shown."""
    findings = [Finding(name="sampler", found=config.kind, state=State.OK)]
    if isinstance(config, LocalModelSection):
        return [*findings, engine(config.kind), *local_model(config)]
    findings.append(attempt("settings", lambda: settings(config), remedy="mend `sampler` in the configuration"))
    if isinstance(config, HttpSamplerConfig):
        findings.append(attempt("template", lambda: template_of(config), remedy="see sampler.template"))
    return findings


def engine(kind: str) -> Finding:
    """The package that runs the model, found but not imported: that takes seconds."""
    if importlib.util.find_spec(kind) is None:
        return Finding(name="engine", found=f"{kind} is not installed", state=State.MISSING, consequence=ENGINES[kind])
    try:
        found = version(kind)
    except PackageNotFoundError:
        found = "of unknown version"
    return Finding(name="engine", found=f"{kind} {found}", state=State.OK)


def local_model(config: LocalModelSection) -> list[Finding]:
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
            attempt("context", lambda: context_of(checkpoint, config=config), remedy="lower sampler.max_tokens"),
            *attention(checkpoint, config=config),
            attempt(
                "ends an answer", lambda: ending_of(checkpoint, config=config), remedy="see generation_config.json"
            ),
            attempt("template", lambda: template_of(config), remedy="one {} for the problem; or name sampler.template"),
            attempt("begin of text", lambda: bos_of(config), remedy="sampler.bos: as_shipped or none"),
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


def settings(config: SamplerConfig) -> str:
    check_sampler(config)
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


def context_of(checkpoint: Checkpoint, *, config: LocalModelSection) -> str:
    limit = limit_of(config)
    room = f", {limit.most} of them for a prompt" if config.max_tokens > 1 else ""
    return f"{checkpoint.context_tokens} tokens{room}"


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


def template_of(config: HttpSamplerConfig | LocalModelSection) -> str:
    """Where the text of a draft comes from, and what of the others is not the package's."""
    open_prompt_writer(config)
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


def bos_of(config: LocalModelSection) -> str:
    """How a prompt begins, as it is sent."""
    nothing = Problem(id="nothing", source="pass", origin="doctor")
    draft = Proposal(id="draft", operator=Operator.DRAFT, parents=())
    tokens = Tokens(locate(config.model), bos=config.bos)
    ids = tokens.encode(open_prompt_writer(config).render(nothing, draft, ()))
    num_bos = sum(id == tokens.bos_id for id in ids)
    shown = " ".join(tokens.name(id) for id in ids[:NUM_SHOWN_TOKENS])
    return f"{config.bos}: {num_bos} in a prompt, which begins {shown}"
