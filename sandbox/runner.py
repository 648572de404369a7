"""Runs a plan on a GPU, again and again, and tells the candidate's faults from ours.

Kernels go through `cuda_driver.py`, operators through `execute.py`. Knows nothing of expected answers, of time or of
verdicts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

import torch

from sandbox.cuda_driver import CudaDriver, LoadedKernel, PreparedLaunch
from sandbox.cuda_fault import DeviceMemoryFault, DriverFault, LaunchFault, StickyFault
from sandbox.execute import Arena, bind_inputs, initialise, run_steps, same_bits, takes_weights_alone
from sandbox.plan import ITEM_BYTES, AtenStep, LaunchStep, Plan, PlanError, resolve
from sandbox.plan_buffers import kept_storages
from sandbox.plan_check import step_refs, tensor_refs
from sandbox.reference import Case
from sandbox.types import Failure, Status
from sandbox.watchdog import Watchdog

# Width of the bands around each buffer, widest first; a narrower one is taken where memory is short.
_GUARD_BYTES = (1 << 20, 64 << 10, 4 << 10)
_GUARD_SHARE = 0.1  # of the free memory, at most

ResultT = TypeVar("ResultT")


class CandidateFault(RuntimeError):
    """The candidate's plan cannot be run to its end. `dead` says that the CUDA context went with it."""

    def __init__(self, status: Status, error_class: str, message: str, dead: bool) -> None:
        super().__init__(status, error_class, message, dead)
        self.status, self.dead = status, dead
        self.failure = Failure(error_class=error_class, message=message[:2000])


def out_of_memory() -> CandidateFault:
    """The fault of a candidate whose tensors are too large."""
    message = "the candidate's tensors do not fit into the GPU's memory"
    return CandidateFault(Status.OUT_OF_MEMORY, "OutOfMemory", message, False)


class Runner:
    """One plan on the GPU: its kernels loaded, its weights drawn, its steps ready to be run again and again."""

    def __init__(self, plan: Plan, *, driver: CudaDriver, device: torch.device, watchdog: Watchdog) -> None:
        """`watchdog` counts the time of what `run` and `run_some` do."""
        self.plan, self.driver, self.device = plan, driver, device
        self._watchdog = watchdog
        self._kernels: dict[int, LoadedKernel] = {}
        self._initial: dict[int, tuple[Arena, str]] = {}

    def resolve(self, choices: tuple[int, ...]) -> None:
        """Settles the plan's choices for good."""
        self.plan = resolve(self.plan, choices)

    def guard_bytes(self) -> int:
        """The widest guard bands that leave room for the buffers."""
        free = torch.cuda.mem_get_info(self.device)[0]
        count = 2 * max(len(self.plan.storages), 1)
        return next((width for width in _GUARD_BYTES if width * count <= free * _GUARD_SHARE), _GUARD_BYTES[-1])

    def bind(self, arena: Arena, case: Case) -> str:
        """Puts weights and inputs of `case` in place; says how parameters got their values. Raises CandidateFault."""
        if takes_weights_alone(self.plan, case.weights):  # they are on the device already
            how = "by_name"
            self.guarded(lambda: [arena.tensor(at).copy_(case.weights[name]) for name, at in self.plan.weights])
        else:
            initial, how = self._initialised(case)
            arena.load(initial)
        self.guarded(lambda: bind_inputs(self.plan, arena, case.inputs))
        return how

    def bind_again(self, arena: Arena, inputs: Sequence[torch.Tensor], *, kept: Mapping[int, torch.Tensor]) -> None:
        """Makes `arena` what a later call finds: `kept` is what the module has of the one before. Raises
        CandidateFault."""
        arena.take_over(kept)
        self.guarded(lambda: bind_inputs(self.plan, arena, inputs))

    def _initialised(self, case: Case) -> tuple[Arena, str]:
        """What the forward pass of `case` finds when it begins, on the host, and how parameters got their values."""
        if case.seed not in self._initial:
            self._initial[case.seed] = self.guarded(lambda: initialise(self.plan, seed=case.seed, weights=case.weights))
        return self._initial[case.seed]

    def changed(self, arena: Arena, case: Case, storages: Iterable[int]) -> dict[int, torch.Tensor]:
        """Those of `storages` that no longer hold what `bind` put there for `case`, each with that content."""
        initial, _ = self._initialised(case)
        bound = ((storage, initial.buffer(storage).to(self.device)) for storage in storages)
        return {storage: content for storage, content in bound if not torch.equal(arena.buffer(storage), content)}

    def changed_state(self, arena: Arena, case: Case) -> bool:
        """Whether a call changed what its module keeps from one call to the next."""
        kept = kept_storages(self.plan)
        if not takes_weights_alone(self.plan, case.weights):
            return bool(self.changed(arena, case, kept))
        # They are on the device already, and nothing else but constants is kept.
        if not all(same_bits(arena.tensor(at), case.weights[name]) for name, at in self.plan.weights):
            return True
        as_made = Arena(self.plan, device=self.device, poison=0, guard_bytes=0)
        constants = (s for s in kept if self.plan.storages[s].role == "constant")
        return not all(torch.equal(arena.buffer(s), as_made.buffer(s)) for s in constants)

    def run(self, arena: Arena) -> None:
        """Runs the resolved plan once and waits for it. Raises CandidateFault."""
        self.run_some(self.plan.steps, arena, self.launcher(arena))  # type: ignore[arg-type]

    def run_some(
        self,
        steps: Sequence[AtenStep | LaunchStep],
        arena: Arena,
        launch: Callable[[LaunchStep], None],
        *,
        wait: bool = True,
    ) -> None:
        """Runs `steps`, and waits for them if asked to. Raises CandidateFault."""

        def work() -> None:
            with self._watchdog.running():
                run_steps(steps, arena, launch)
                if wait:
                    self.driver.synchronise()

        self.guarded(work)

    def launcher(self, arena: Arena) -> Callable[[LaunchStep], None]:
        """Launches steps on torch's current stream; a step that comes again on the same buffers is not packed again."""
        prepared: dict[int, tuple[tuple[int, ...], PreparedLaunch]] = {}

        def launch(step: LaunchStep) -> None:
            kernel = self._kernel(step.kernel)
            pointers = {i: address_of(arena, i) for i in step_refs(self.plan, step)}
            known = prepared.get(id(step))
            if known is None or known[0] != tuple(pointers.values()):
                known = prepared[id(step)] = (tuple(pointers.values()), kernel.prepare(step, pointers.__getitem__))
            known[1](torch.cuda.current_stream(self.device).cuda_stream)

        return launch

    def _kernel(self, index: int) -> LoadedKernel:
        if index not in self._kernels:
            self._kernels[index] = self.driver.load(self.plan.kernels[index])
        return self._kernels[index]

    def guarded(self, work: Callable[[], ResultT]) -> ResultT:
        """Runs something of the candidate's; tells its faults from ours."""
        try:
            return work()
        except DriverFault:
            raise
        except StickyFault as error:
            raise self._sticky(error) from error
        except LaunchFault as error:
            raise CandidateFault(Status.LAUNCH_ERROR, type(error).__name__, str(error), False) from error
        except PlanError as error:
            raise CandidateFault(Status.TRACE_ERROR, type(error).__name__, str(error), False) from error
        except (torch.OutOfMemoryError, DeviceMemoryFault) as error:
            raise out_of_memory() from error
        except (RuntimeError, TypeError, ValueError, IndexError, OverflowError) as error:
            # An operator refused its arguments, or it is only the first to hear of a kernel that went wrong before it.
            try:
                self.driver.synchronise()
            except StickyFault as sticky:
                raise self._sticky(sticky) from error
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise CandidateFault(Status.LAUNCH_ERROR, type(error).__name__, lines[0], False) from error

    def _sticky(self, error: StickyFault) -> CandidateFault:
        names = sorted({kernel.name for kernel in self.plan.kernels})
        message = f"{error.result.lower().replace('_', ' ')} in a kernel ({', '.join(names)})"
        return CandidateFault(error.status, "CudaError", message, True)

    def outputs(self, arena: Arena) -> list[torch.Tensor]:
        """The output tensors, in order."""
        return [arena.tensor(index) for index in tensor_refs(self.plan.outputs)]

    def reload(self) -> None:
        """Has kernels loaded anew at their next launch, so that what they keep in device globals is gone. Launchers
        that were made before must not be used again. Raises CandidateFault."""
        self.guarded(self.close)

    def close(self) -> None:
        """Unloads the kernels. Whoever captured a graph has dropped it."""
        self.driver.synchronise()
        for kernel in self._kernels.values():
            kernel.unload()
        self._kernels.clear()


def address_of(arena: Arena, value: int) -> int:
    """The device address of a value's first element."""
    record = arena.plan.values[value]
    return arena.buffer(record.storage).data_ptr() + record.offset * ITEM_BYTES[record.dtype]
