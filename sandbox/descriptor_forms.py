"""In which form a compiled kernel takes its descriptors, from what the compiler says of it.

Runs where kernels are compiled. The two ways are those of `make_tensordesc_arg` in triton/backends/nvidia/driver.py.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from sandbox.descriptors import Lowered, TensorMap
from sandbox.kernel_source import SourceError

# The compiler numbers three types otherwise than the driver does.
_TO_DRIVERS_TYPE = {8: 10, 9: 8, 10: 9}


def descriptor_forms(metadata: Any, *, num_descriptors: int) -> list[dict[str, Any]]:
    """One a descriptor among the parameters, in order, as JSON. Raises SourceError for one that a plan cannot hold."""
    maps = list(getattr(metadata, "tensordesc_meta", None) or ())
    if not maps:  # before sm_90
        return [Lowered(flags=_num_flags()).to_json()] * num_descriptors
    if len(maps) != num_descriptors:
        raise SourceError("the compiler tells of another number of descriptors than the kernel takes")
    return [_tensor_map(told).to_json() for told in maps]


def _tensor_map(told: Any) -> TensorMap:
    if told["fp4_padded"]:
        raise SourceError("a descriptor of 4-bit numbers has no form in a plan")
    return TensorMap(
        swizzle=told["swizzle"],
        element_type=_TO_DRIVERS_TYPE.get(told["elem_type"], told["elem_type"]),
        element_bytes=told["elem_size"],
        box=tuple(told["block_size"]),
    )


def _num_flags() -> int:
    """Triton 3.6 passes whether padding is NaN, 3.7 whether numbers are rounded to TF32 as well."""
    from triton.tools.tensor_descriptor import TensorDescriptor

    return 2 if any(field.name == "round_f32_to_tf32" for field in dataclasses.fields(TensorDescriptor)) else 1
