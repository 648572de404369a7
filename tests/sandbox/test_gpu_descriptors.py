"""Descriptors made on the host, on a GPU: encoded by the driver, taken by kernels, in graphs and on other buffers."""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Callable
from typing import Any

import pytest

from sandbox.cuda_driver import CudaDriver, LoadedKernel, parameter_sizes
from sandbox.cuda_fault import LaunchFault
from sandbox.descriptors import Descriptor, TensorMap
from sandbox.plan import Kernel, LaunchStep, Plan, decode
from sandbox.tensor_map import MAP_BYTES, encoded, tiling
from sandbox.tracer import Traced
from tests.sandbox.described import doubling

Trace = Callable[[str, str], Traced]

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def driver() -> CudaDriver:
    return CudaDriver()


class Doubling:
    """The traced program with its kernel loaded, and how to launch it on buffers of the test's own."""

    def __init__(self, trace: Trace, driver: CudaDriver, dtype: str) -> None:
        import torch

        traced = trace(*doubling(dtype))
        assert traced.plan is not None, traced.failure
        self.plan: Plan = decode(traced.plan)
        (self.step,) = [step for step in self.plan.steps if isinstance(step, LaunchStep)]
        self.kernel: Kernel = self.plan.kernels[self.step.kernel]
        self.driver = driver
        self.dtype = getattr(torch, dtype)
        sizes = list(self.sizes())
        assert sizes[: len(parameter_sizes(self.kernel))] == list(parameter_sizes(self.kernel)), self.told(sizes)
        self.loaded: LoadedKernel = driver.load(self.kernel)

    def sizes(self) -> list[int]:
        """The parameters' bytes as the driver has them."""
        module = self.driver.call("cuModuleLoadData", self.kernel.cubin, subject="loading")
        function = self.driver.call("cuModuleGetFunction", module, self.kernel.entry.encode(), subject="finding")
        found = []
        for at in itertools.count():
            result, *told = self.driver.bindings.cuFuncGetParamInfo(function, at)
            if result:
                break
            found.append(int(told[1]))
        self.driver.call("cuModuleUnload", module, subject="unloading")
        return found

    def told(self, *more: object) -> str:
        """Everything that a failure may need."""
        return f"{self.kernel.params} {self.kernel.descriptors} {self.step.args} {parameter_sizes(self.kernel)} {more}"

    def buffers(self, seed: int) -> tuple[Any, Any, Any]:
        import torch

        torch.manual_seed(seed)
        x = (torch.randn(40, 32, device="cuda") * 9).to(self.dtype)
        return x, torch.full_like(x, 77), torch.zeros(6, dtype=torch.int64, device="cuda")

    def prepared(self, x: Any, y: Any, seen: Any) -> Any:
        at = {}
        for argument, tensor in ((self.step.args[1], x), (self.step.args[2], seen), (self.step.args[3], y)):
            at[argument.base if isinstance(argument, Descriptor) else argument] = tensor.data_ptr()
        return self.loaded.prepare(self.step, at.__getitem__)


def stream() -> int:
    import torch

    return int(torch.cuda.current_stream().cuda_stream)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "float64", "int32", "int8"])
def test_a_kernel_takes_descriptors_among_others(trace: Trace, driver: CudaDriver, dtype: str) -> None:
    import torch

    program = Doubling(trace, driver, dtype)
    x, y, seen = program.buffers(1)
    program.prepared(x, y, seen)(stream())
    driver.synchronise()
    assert seen.tolist() == [-7, 40, 32, 32, 32, 100], program.told(seen.tolist())
    assert torch.equal(y, x * 2), program.told(dtype, x[:2].tolist(), y[:2].tolist(), y[-1].tolist())
    program.loaded.unload()


def test_descriptors_are_kept_by_a_graph_and_made_for_other_buffers(trace: Trace, driver: CudaDriver) -> None:
    import torch

    program = Doubling(trace, driver, "float32")
    sets = [program.buffers(seed) for seed in (1, 2)]
    launches = [program.prepared(*buffers) for buffers in sets]
    graphs = []
    for launch in launches:
        launch(stream())
        driver.synchronise()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            launch(stream())
        graphs.append(graph)
    del launches, launch  # a graph has parameters of its own
    for (x, y, _), graph in zip(sets, graphs, strict=True):
        x.copy_(torch.randn_like(x))
        y.fill_(77)
        for _, other_y, _ in sets:
            if other_y is not y:
                other_y.fill_(55)
        graph.replay()
        driver.synchronise()
        assert torch.equal(y, x * 2), program.told(x[:2].tolist(), y[:2].tolist())
        assert all(bool((o == 55).all()) for _, o, _ in sets if o is not y), program.told("the other set was written")
    del graphs, graph
    program.loaded.unload()


def test_what_the_driver_does_not_encode_is_the_candidates_fault(trace: Trace, driver: CudaDriver) -> None:
    program = Doubling(trace, driver, "float32")
    x, y, seen = program.buffers(1)
    with pytest.raises(LaunchFault, match="encoding a descriptor of kernel doubled"):
        program.prepared(x.reshape(-1)[1:], y, seen)
    driver.synchronise()
    program.loaded.unload()


@pytest.mark.parametrize(
    ("form", "given"),
    [
        (
            TensorMap(swizzle=3, element_type=6, element_bytes=2, box=(128, 64)),
            Descriptor(base=0, shape=(200, 192), strides=(192, 1), padding="zero"),
        ),
        (
            TensorMap(swizzle=0, element_type=7, element_bytes=4, box=(256,)),
            Descriptor(base=0, shape=(6400,), strides=(1,), padding="nan"),
        ),
        (
            TensorMap(swizzle=2, element_type=9, element_bytes=2, box=(1, 16, 32)),
            Descriptor(base=0, shape=(4, 32, 32), strides=(2048, 64, 1), padding="nan"),
        ),
    ],
)
def test_the_bytes_are_those_of_tritons_own_encoder(driver: CudaDriver, form: TensorMap, given: Descriptor) -> None:
    import torch
    import triton

    try:
        utils: Any = triton.runtime.driver.active.utils
    except Exception as error:  # noqa: BLE001  Triton builds it with a C compiler, which may not be there
        pytest.skip(f"Triton's launcher cannot be built here: {str(error)[:200]}")
    memory = torch.zeros(1 << 16, dtype=torch.float32, device="cuda")
    fill = getattr(utils, "fill_tma_descriptor", None) or utils.fill_tma_descriptor_tiled
    theirs = fill(
        memory.data_ptr(), form.swizzle, form.element_bytes, form.element_type, list(form.box), list(given.shape),
        list(given.strides), int(given.padding == "nan"),
    )  # fmt: skip
    result, ours = encoded(driver.tensor_map_encoder(), form, given, address=memory.data_ptr())
    assert result == 0, (driver.bindings.CUresult(result), tiling(form, given))
    held = ctypes.string_at(id(theirs) + 128, MAP_BYTES)  # after the head of the object, aligned to 128 bytes
    assert ours == held, (ours.hex(), held.hex())
