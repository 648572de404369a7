"""What the judge measured of a passing candidate and what holds it back, in words for a model that is to do better.

Knows nothing of templates. Occupancy is CUDA's formula on what the compiler told; the rest was measured or counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sandbox.occupancy import occupancy
from sandbox.types import MAX_KERNEL_FIGURES, KernelFigures, Performance, Verdict

MOST_KERNELS = 4  # that are told one by one: those launched most
NEAR_ROOFLINE = 0.8  # from there on, moving fewer bytes is all that would help


def describe_figures(verdict: Verdict, *, capability: int | None) -> str:
    """Times, share of the roofline, launches, and what each kernel takes of a GPU of that capability."""
    performance = verdict.performance
    if performance is None:
        return "It was not timed."
    return " ".join([_times(performance), *_roofline(performance), *_launches(verdict.kernels, capability=capability)])


def describe_pair(first: Verdict, second: Verdict, *, capability: int | None) -> str:
    """The figures of two candidates, the first's in full."""
    told = describe_figures(first, capability=capability)
    if second.performance is None:
        return f"{told} The other file was not timed."
    other, launches = second.performance, _num_launches(second.kernels)
    how = f", in {launches}" if second.kernels else ""
    return f"{told} The other file takes {other.runtime_us:.1f} us (a speedup of {other.speedup:.2f}){how}."


def _times(performance: Performance) -> str:
    baselines = ", ".join(f"{name} {runtime_us:.1f} us" for name, runtime_us in sorted(performance.baseline_us.items()))
    return (
        f"It takes {performance.runtime_us:.1f} us; PyTorch takes: {baselines}. "
        f"That is a speedup of {performance.speedup:.2f} (95 % interval {performance.speedup_low:.2f} to "
        f"{performance.speedup_high:.2f})."
    )


def _roofline(performance: Performance) -> Iterator[str]:
    floor_us = performance.floor_us
    if floor_us is None:
        return
    share = floor_us / performance.runtime_us
    num_bytes, bandwidth = floor_bytes(performance), performance.conditions.get("copy_bandwidth_gb_s")
    moved = "" if num_bytes is None else f" ({num_bytes / 1e6:.3g} MB at {bandwidth} GB/s)"
    yield (
        f"Reading its inputs and weights and writing its outputs once{moved} takes {floor_us:.1f} us, "
        f"{share:.0%} of its time."
    )
    if share >= NEAR_ROOFLINE:
        yield "It is bound by memory, and moves little more than it must."


def floor_bytes(performance: Performance) -> int | None:
    """The bytes behind the roofline: inputs, weights and what of the outputs cannot stay in L2. None where it, or the
    bandwidth that it was drawn from, is not known. To the bandwidth's four digits."""
    bandwidth = performance.conditions.get("copy_bandwidth_gb_s")
    if performance.floor_us is None or bandwidth is None:
        return None
    return round(performance.floor_us * float(bandwidth) * 1e3)


def _launches(kernels: Sequence[KernelFigures], *, capability: int | None) -> Iterator[str]:
    if not kernels:
        return
    yield f"It makes {_num_launches(kernels)}."
    for kernel in sorted(kernels, key=lambda kernel: -kernel.launches)[:MOST_KERNELS]:
        yield _kernel(kernel, capability=capability)


def _num_launches(kernels: Sequence[KernelFigures]) -> str:
    number, least = sum(kernel.launches for kernel in kernels), len(kernels) == MAX_KERNEL_FIGURES
    return f"{'at least ' if least else ''}{number} launch{'' if number == 1 else 'es'}"


def _kernel(kernel: KernelFigures, *, capability: int | None) -> str:
    spills = f"{kernel.local_bytes} bytes of registers spilled" if kernel.local_bytes else "no spills"
    found = None
    if capability is not None:
        found = occupancy(
            capability=capability,
            registers=kernel.registers,
            shared_bytes=kernel.shared_bytes,
            num_warps=kernel.num_warps,
        )
    held = "" if found is None else f", occupancy {found.share:.0%}, limited by {found.limited_by}"
    return (
        f"Kernel {kernel.name}: grid {' x '.join(map(str, kernel.grid))}, {kernel.num_warps} warps, "
        f"{kernel.registers} registers a thread, {spills}, {kernel.shared_bytes} bytes of shared memory{held}."
    )
