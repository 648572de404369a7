"""Finds GPUs that a candidate names by a number other than 0. Its tensors are on the one GPU that it sees.

Knows nothing of the GPUs that there are.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from sandbox.spans import Spans
from sandbox.types import Finding

RULE = "device_index"
_TAKES_INDEX = frozenset(["set_device", "_DeviceGuard", "get_raw_stream", "_cuda_getCurrentRawStream", "cuda"])
_NAMED = re.compile(r"""(["'])cuda:[1-9]\d*\1""")


def device_indices(tree: ast.Module, spans: Spans) -> Iterator[Finding]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and _is_named(node.value):
            if (match := _NAMED.fullmatch(spans.text(node))) is None:
                continue  # put together of parts
            yield _finding(node, f"{match[1]}cuda:0{match[1]}", spans)
        elif isinstance(node, ast.Call):
            for argument in _indices(node):
                yield _finding(argument, "0", spans)


def _is_named(value: object) -> bool:
    return isinstance(value, str) and value.startswith("cuda:") and value[5:] not in ("", "0")


def _indices(call: ast.Call) -> list[ast.Constant]:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", None)
    given = [keyword.value for keyword in call.keywords if keyword.arg in ("device", "index")]
    if name in _TAKES_INDEX and len(call.args) == 1:
        given.append(call.args[0])
    elif name == "device" and call.args:  # torch.device("cuda", 1), torch.cuda.device(1)
        given.append(call.args[-1])
    return [
        value for value in given if isinstance(value, ast.Constant) and type(value.value) is int and value.value > 0
    ]


def _finding(node: ast.Constant, instead: str, spans: Spans) -> Finding:
    message = f"line {node.lineno}: there is one GPU, number 0: take the device from the input"
    return spans.finding(RULE, node, instead=instead, message=message)
