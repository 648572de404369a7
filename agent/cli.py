"""The command line: a function for each command, from `run` to `doctor`.

Builds the parts, hands them to each other, and turns errors into one line and an exit code: 0 done, 1 ours, 2 the
user's; of `judge`, `rejudge` and `trace` 3: the candidate is not correct, or gives no plan.
Knows nothing of how the parts work. Nothing heavy is imported before a command needs it, so that `--help` is quick.
"""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.status import Status

app = typer.Typer(
    help="Turns PyTorch modules into verified Triton kernels: sample, trace, judge, repair, rank.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

problems_app = typer.Typer(help="Look at problems without a candidate.", no_args_is_help=True)
app.add_typer(problems_app, name="problems")

PROGRAM = "kernelloop"
KEY_VALUE = "KEY=VALUE"  # typer adds that there may be several, or none
INTERRUPTED_CODE = 130  # what typer makes of an interrupt
Overrides = Annotated[
    list[str] | None, typer.Argument(metavar=KEY_VALUE, help="e.g. budget.samples=8", show_default=False)
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object a line instead of text.")]

Mode = Literal["auto", "interpret", "replay"]
Policy = Literal["triton", "any"]
Precision = Literal["ieee", "tf32", "fp16_accumulate"]
Isolation = Annotated[Literal["strict", "best_effort", "off"] | None, typer.Option(help="Of the sandbox.")]


@app.command()
def run(
    config: Annotated[Path, typer.Argument(metavar="CONFIG.yaml", show_default=False)],
    overrides: Overrides = None,
    json: AsJson = False,
) -> int:
    """Search for kernels as CONFIG.yaml says, and keep everything in a run folder."""
    from agent import run_command

    return run_command.start(config, overrides=overrides or [], as_json=json)


@app.command()
def resume(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.", show_default=False)],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar=KEY_VALUE, help="Of budgets, e.g. run_budget.tokens=90000", show_default=False),
    ] = None,
    json: AsJson = False,
) -> int:
    """Go on with an interrupted run, or with larger budgets. Nothing is sampled or judged twice but what was in
    flight."""
    from agent import run_command

    return run_command.resume(run, as_json=json, overrides=overrides or [])


@app.command()
def report(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.", show_default=False)],
    html: Annotated[
        bool, typer.Option("--html", help="Also RUN/report.html, one file that needs nothing else.")
    ] = False,
) -> int:
    """Write RUN/report.md from what the run has recorded so far."""
    from agent import run_command

    with waiting("writing the report"):
        path = run_command.write_report(run, html=html)
    print(path)
    return 0


@app.command()
def watch(run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.", show_default=False)]) -> int:
    """Follow a live run, also from another machine that sees its folder. Ctrl-C leaves; the run goes on."""
    import time

    from agent import run_command, watch_command

    console, folder = Console(), run_command.open_folder(run)
    live = console.is_terminal
    return watch_command.watch(
        folder, console=console, clock=time.monotonic, wall_clock=time.time, sleep=time.sleep, live=live
    )


@app.command()
def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.", show_default=False)],
    csv: Annotated[bool, typer.Option("--csv", help="As CSV.")] = False,
    parquet: Annotated[bool, typer.Option("--parquet", help="As Parquet; needs pyarrow.")] = False,
    texts: Annotated[bool, typer.Option("--texts", help="With sources, prompts, completions and feedback.")] = False,
    out: Annotated[Path | None, typer.Option(help="The file; default: events.csv or .parquet in the run.")] = None,
) -> int:
    """Write every event of a run as one table, for pandas and the like. docs/export.md has its columns."""
    from agent import export_command, run_command

    if csv == parquet:
        return complain("export: give one of --csv and --parquet", code=2)
    with waiting("writing the table"):
        path = export_command.export(run_command.open_folder(run), parquet=parquet, texts=texts, out=out)
    print(path)
    return 0


@app.command()
def judge(
    problem: Annotated[Path | None, typer.Argument(metavar="PROBLEM.py", show_default=False)] = None,
    candidate: Annotated[Path | None, typer.Argument(metavar="CANDIDATE.py", show_default=False)] = None,
    json: AsJson = False,
    pairs: Annotated[Path | None, typer.Option(help="A JSONL file of id, problem, candidate.")] = None,
    out: Annotated[Path | None, typer.Option(help="Where the verdicts of --pairs go.")] = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Workers for --pairs; default: by cores. 1 needs no Ray.")
    ] = None,
    mode: Annotated[Mode | None, typer.Option()] = None,
    isolation: Isolation = None,
    policy: Annotated[Policy | None, typer.Option(help="What may pass.")] = None,
    precision: Annotated[Precision, typer.Option(help="What kernels may compute in, besides ieee.")] = "ieee",
    seed: Annotated[int, typer.Option(min=0, help="Mixed into the secret input seeds.")] = 0,
    evidence: Annotated[Path | None, typer.Option(help="A folder to be made for what `rejudge` needs.")] = None,
    python_call: Annotated[
        bool, typer.Option("--python-call", help="Also time one real call from Python; needs a GPU.")
    ] = False,
) -> int:
    """Judge one candidate, or with --pairs and --out many. Model answers in .md or .txt files are extracted first."""
    from agent import judge_command

    if pairs is None and (problem is None or candidate is None):
        return complain("judge: give PROBLEM.py and CANDIDATE.py, or --pairs and --out", code=2)
    if pairs is not None and (problem is not None or out is None):
        return complain("judge: --pairs needs --out, and goes without PROBLEM.py and CANDIDATE.py", code=2)
    if pairs is not None and (evidence is not None or python_call or json):
        told = "--evidence, --python-call and --json are for one candidate; --pairs writes JSON lines to --out"
        return complain(f"judge: {told}", code=2)
    options = {
        "mode": mode,
        "isolation": isolation,
        "policy": policy,
        "precision": [*dict.fromkeys(("ieee", precision))],
    }
    settings = judge_command.settings_for(options, seed=seed)
    if pairs is not None and out is not None:
        return judge_command.judge_many(pairs, out=out, jobs=jobs, settings=settings)
    assert problem is not None and candidate is not None
    return judge_command.judge_one(
        problem, candidate, settings=settings, evidence=evidence, python_call=python_call, as_json=json
    )


@app.command()
def rejudge(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="A folder of evidence.", show_default=False)],
    json: AsJson = False,
    isolation: Isolation = None,
    problem: Annotated[
        Path | None,
        typer.Option(metavar="PROBLEM.py", help="Your own copy, to judge on: a bundle with another is refused."),
    ] = None,
) -> int:
    """Check that a bundle of evidence is whole, judge its candidate anew on this machine, and compare."""
    from agent import rejudge as again

    return again.rejudge(bundle, isolation=isolation, as_json=json, own_problem=problem)


@app.command()
def trace(
    candidate: Annotated[Path, typer.Argument(metavar="CANDIDATE.py", show_default=False)],
    problem: Annotated[Path, typer.Option(metavar="PROBLEM.py", show_default=False)],
    isolation: Isolation = None,
) -> int:
    """Show the plan of a candidate: steps, kernels, registers, spills, shared memory, bytes touched. Needs no GPU."""
    from agent import judge_command

    settings = judge_command.settings_for({"isolation": isolation}, seed=0)
    return judge_command.trace(problem, candidate, settings=settings)


@problems_app.command()
def check(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="A problem, a folder, a glob, KernelBench.")],
    levels: Annotated[str | None, typer.Option(help="Of a KernelBench checkout, e.g. 1,2.")] = None,
    json: AsJson = False,
    out: Annotated[Path | None, typer.Option(help="A JSONL file for the findings.")] = None,
    mode: Annotated[Mode | None, typer.Option()] = None,
    isolation: Isolation = None,
    seed: Annotated[int, typer.Option(min=0, help="Mixed into the secret input seeds.")] = 0,
) -> int:
    """Say which problems can be judged: null programs must fail on them. Exit code 2 if some cannot."""
    from agent import judge_command, problems_command

    try:
        numbers = None if levels is None else [int(number) for number in levels.split(",")]
    except ValueError:
        return complain(f"problems check: --levels {levels}: numbers with commas between, such as 1,2", code=2)
    settings = judge_command.settings_for({"mode": mode, "isolation": isolation}, seed=seed)
    return problems_command.check(path, levels=numbers, out=out, settings=settings, as_json=json)


@app.command()
def simulate(
    config: Annotated[Path, typer.Argument(metavar="SIMULATION.yaml", show_default=False)],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar=KEY_VALUE, help="e.g. problems=100", show_default=False)
    ] = None,
    fit: Annotated[Path | None, typer.Option(metavar="RUN", help="A run folder, in place of what is stated.")] = None,
    json: AsJson = False,
) -> int:
    """Play strategies against synthetic problems, at equal budgets: no model, no judge, no GPU."""
    from agent import simulate_command

    return simulate_command.run(config, overrides=overrides or [], fit=fit, as_json=json)


@app.command()
def compare(
    experiment: Annotated[Path, typer.Argument(metavar="EXPERIMENT.yaml", show_default=False)],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar=KEY_VALUE, help="e.g. budget.tokens=4000", show_default=False)
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the newest one of this definition under runs/.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON object a search, for pandas and the like.")] = False,
) -> int:
    """Carry out an experiment: arms x seeds x problems at an equal budget, and compare the arms. Can be interrupted."""
    from agent import compare_command

    return compare_command.compare(experiment, overrides=overrides or [], resume=resume, as_json=json)


@app.command()
def sample(
    problem: Annotated[Path, typer.Argument(metavar="PROBLEM.py", show_default=False)],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar=KEY_VALUE, help="e.g. sampler.temperature=0.8", show_default=False)
    ] = None,
    number: Annotated[int, typer.Option("-n", "--number", min=1, help="How many answers.")] = 1,
    config: Annotated[Path | None, typer.Option(metavar="CONFIG.yaml", help="Whose sampler to use.")] = None,
    model: Annotated[
        str | None, typer.Option(metavar="FOLDER", help="A checkpoint, to be run in this process.")
    ] = None,
    json: AsJson = False,
) -> int:
    """Show what a model answers to a problem. Nothing is judged."""
    from agent import sample_command

    return sample_command.sample(
        problem, num_answers=number, config_path=config, model=model, overrides=overrides or [], as_json=json
    )


@app.command()
def doctor(
    config: Annotated[Path | None, typer.Argument(metavar="CONFIG.yaml", show_default=False)] = None,
    model: Annotated[str | None, typer.Option(metavar="FOLDER", help="A checkpoint to look at.")] = None,
) -> int:
    """Say what this machine offers, what is missing and what that disables; and whether a model can be sampled."""
    from agent import doctor as diagnosis
    from agent import sampler_check
    from sandbox import environment
    from sandbox.isolation import probe

    asked = config is not None or model is not None
    sections = sampler_check.sections_of(config, model=model) if asked else None  # a mistake there is told first
    layers = probe()
    gpus = environment.gpus()
    findings = diagnosis.examine(
        environment.record(isolation=layers), isolation=layers, gpus=gpus, visible=environment.visible_gpus(gpus)
    )
    console = Console(soft_wrap=False)
    console.print(diagnosis.table(findings))
    if sections is None:
        return 0
    found = sampler_check.examine(sections)
    console.print()
    console.print(diagnosis.table(found, consequence="what mends it"))
    return 2 if any(finding.state is diagnosis.State.MISSING for finding in found) else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns the exit code; `arguments` None takes the process's own."""
    name_log_lines()
    try:
        code = app(args=arguments, prog_name=PROGRAM, standalone_mode=False)
    except typer.TyperException as error:
        return complain(told_by_typer(error), code=error.exit_code)
    except KeyboardInterrupt:  # before typer would take it
        return complain("interrupted", code=1)
    except (ValueError, RuntimeError, OSError, BaseExceptionGroup) as error:
        from agent import blame

        if (blamed := blame.exit_code(error)) is None:
            raise
        return complain(blame.one_line(error), code=blamed)
    if code == INTERRUPTED_CODE:
        return complain("interrupted", code=1)
    return code if isinstance(code, int) else 0


def told_by_typer(error: typer.TyperException) -> str:
    """A mistake in the command line, and which `--help` names what is allowed."""
    context: typer.Context | None = getattr(error, "ctx", None)
    message = error.format_message().replace("Value error, ", "").rstrip(".")
    return message if context is None else f"{message}; see {context.command_path} --help"


def waiting(what: str) -> Status:
    """Shows that something goes on: on a terminal only, and beside what is printed."""
    return Console(stderr=True).status(f"{what} ...")


class ComplainedLines(logging.Handler):
    """Log lines that look like all others. Standard error is looked up for each: a live display stands in for it."""

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(OSError):
            print(f"{PROGRAM}: {self.format(record)}", file=sys.stderr)


def name_log_lines() -> None:
    for package in ("agent", "sandbox"):
        logger = logging.getLogger(package)
        if not logger.handlers:
            logger.addHandler(ComplainedLines())


def complain(message: str, *, code: int) -> int:
    """One line on standard error."""
    from agent.wording import printable  # what is complained about may have been written by anybody

    print(f"{PROGRAM}: {printable(' '.join(message.split()))}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
