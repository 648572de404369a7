"""What a failed driver call means, and for whom.

Knows only the names that the CUDA driver gives its results.
"""

from __future__ import annotations

from collections.abc import Mapping

from sandbox.types import Status

# What each driver result means for the candidate. A sticky one leaves the context dead; the others leave it as it was.
_LAUNCH_RESULTS = frozenset(
    {
        "INVALID_VALUE", "INVALID_IMAGE", "NO_BINARY_FOR_GPU", "INVALID_SOURCE", "INVALID_PTX", "NOT_FOUND",
        "UNSUPPORTED_PTX_VERSION", "LAUNCH_OUT_OF_RESOURCES", "INVALID_CLUSTER_SIZE", "NOT_SUPPORTED",
        "COOPERATIVE_LAUNCH_TOO_LARGE",
        "SHARED_OBJECT_SYMBOL_NOT_FOUND", "SHARED_OBJECT_INIT_FAILED", "JIT_COMPILER_NOT_FOUND",
    }
)  # fmt: skip
_STICKY_RESULTS: Mapping[str, Status] = {
    "ILLEGAL_ADDRESS": Status.ILLEGAL_ACCESS,
    "MISALIGNED_ADDRESS": Status.ILLEGAL_ACCESS,
    "INVALID_ADDRESS_SPACE": Status.ILLEGAL_ACCESS,
    "INVALID_PC": Status.ILLEGAL_ACCESS,
    "HARDWARE_STACK_ERROR": Status.ILLEGAL_ACCESS,
    "ASSERT": Status.LAUNCH_ERROR,
    "ILLEGAL_INSTRUCTION": Status.LAUNCH_ERROR,
    "LAUNCH_FAILED": Status.LAUNCH_ERROR,
    "LAUNCH_TIMEOUT": Status.TIMEOUT,
}


class CudaFault(RuntimeError):
    """A driver call failed. `result` is the driver's name for it without its prefix, `subject` what was being done."""

    def __init__(self, result: str, subject: str) -> None:
        super().__init__(result, subject)
        self.result, self.subject = result, subject

    def __str__(self) -> str:
        return f"{self.subject}: {self.result.lower().replace('_', ' ')}"


class LaunchFault(CudaFault):
    """The candidate's: the kernel cannot be loaded or launched as it stands. The context lives."""


class StickyFault(CudaFault):
    """The candidate's: a kernel went wrong while it ran. The context is dead, and the process with it."""

    @property
    def status(self) -> Status:
        return _STICKY_RESULTS[self.result]


class DeviceMemoryFault(CudaFault):
    """The device's memory is used up."""


class DriverFault(CudaFault):
    """Ours: anything that no candidate can cause."""


def fault_named(name: str, subject: str) -> CudaFault:
    """The exception for a result by the driver's name ("CUDA_ERROR_ILLEGAL_ADDRESS")."""
    short = name.removeprefix("CUDA_ERROR_")
    if short in _STICKY_RESULTS:
        return StickyFault(short, subject)
    if short in _LAUNCH_RESULTS:
        return LaunchFault(short, subject)
    return (DeviceMemoryFault if short == "OUT_OF_MEMORY" else DriverFault)(short, subject)
