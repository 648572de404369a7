"""What is kept out of reach: it comes back as it was, no address leads to it meanwhile, its memory is given back."""

from __future__ import annotations

import gc

import pytest
import torch

from sandbox.cuda_driver import CudaDriver
from sandbox.vault import Vault

pytestmark = pytest.mark.gpu
MIB = 1 << 20


@pytest.fixture
def driver() -> CudaDriver:
    return CudaDriver()


def opened(driver: CudaDriver, *, limit_bytes: int = 64 * MIB) -> Vault:
    return Vault(driver, device=torch.device("cuda", torch.cuda.current_device()), limit_bytes=limit_bytes)


def mapped(driver: CudaDriver, address: int) -> bool:
    """Whether the driver knows of memory there."""
    attribute = driver.bindings.CUpointer_attribute.CU_POINTER_ATTRIBUTE_MEMORY_TYPE
    result, *_ = driver.bindings.cuPointerGetAttribute(attribute, address)
    return int(result) == 0


@pytest.mark.parametrize("dtype", [torch.float64, torch.int32, torch.bool, torch.complex64])
def test_a_tensor_comes_back_as_it_was(driver: CudaDriver, dtype: torch.dtype) -> None:
    given = (100 * torch.randn(1027, 2049, device="cuda")).to(dtype)
    kept = opened(driver).keep(given.t())
    assert kept is not None
    for _ in range(3):
        assert torch.equal(kept(), given.t()) and kept().shape == given.t().shape


def test_no_address_leads_to_it_but_while_it_is_read(driver: CudaDriver) -> None:
    kept = opened(driver).keep(torch.ones(2 * MIB, device="cuda"))
    assert kept is not None
    shown = kept()
    address, part = shown.data_ptr(), shown[5:9]
    assert mapped(driver, address)
    del shown
    assert mapped(driver, address) and part.tolist() == [1.0] * 4  # something still reads it
    del part
    assert not mapped(driver, address)
    torch.ones(8, device="cuda").sum().item()  # the context lives on


def test_memory_is_given_back_and_bounded(driver: CudaDriver) -> None:
    vault, each = opened(driver, limit_bytes=40 * MIB), torch.zeros(4 * MIB, device="cuda")
    free = torch.cuda.mem_get_info()[0]
    kept = [vault.keep(each), vault.keep(each)]
    assert all(kept) and vault.num_bytes == 32 * MIB and vault.keep(each) is None
    assert torch.cuda.mem_get_info()[0] <= free - 32 * MIB
    kept.clear()
    gc.collect()
    assert vault.num_bytes == 0 and vault.keep(each) is not None


def test_small_ones_are_left_to_the_host(driver: CudaDriver) -> None:
    assert opened(driver).keep(torch.zeros(1000, device="cuda")) is None
