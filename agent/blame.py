"""Says whose mistake an error is: the user's, ours, or unknown.

Knows the error types of every part, and nothing of when they are raised. Loaded only when there is an error to explain.
"""

from __future__ import annotations

from agent.checkpoint import CheckpointError
from agent.config_section import ConfigError
from agent.evidence import BundleDamaged
from agent.ledger_file import LedgerError, LedgerInUse, LedgerNotWritable, NoLedger, ResumeError
from agent.pairs import PairsError
from agent.pool import PoolError
from agent.prompts import PromptError
from agent.run_folder import RunFolderError
from agent.sampler import RecordingError, SamplerError, SamplerRefused
from sandbox.isolation import IsolationError
from sandbox.problems import ProblemError
from sandbox.tracer import ProblemFailed
from sandbox.zygote import SandboxError

OURS_CODE = 1
USERS_CODE = 2
NOT_CORRECT_CODE = 3  # of one candidate that was named on the command line

USERS = (
    BundleDamaged,
    CheckpointError,
    ConfigError,
    IsolationError,
    LedgerInUse,
    LedgerNotWritable,
    NoLedger,
    PairsError,
    ProblemError,
    ProblemFailed,
    PromptError,
    RecordingError,
    ResumeError,
    SamplerRefused,
)
OURS = (LedgerError, PoolError, RunFolderError, SandboxError, SamplerError, OSError)


def exit_code(error: BaseException) -> int | None:
    """The exit code for an error that a line explains; None for one that needs a traceback."""
    if isinstance(error, BaseExceptionGroup):
        codes = {exit_code(inner) for inner in error.exceptions}
        return codes.pop() if len(codes) == 1 else None
    if isinstance(error, USERS):
        return USERS_CODE
    return OURS_CODE if isinstance(error, OURS) else None


def one_line(error: BaseException) -> str:
    """What to tell the user; of several errors at once, the first."""
    return one_line(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else str(error)
