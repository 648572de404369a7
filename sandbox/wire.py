"""Messages between trusted processes and sandboxed ones: a JSON body and raw blobs, bounded and never pickled.

Knows nothing of what the messages mean.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from typing import Any

_MAGIC = b"KLW1"
_MAX_BLOBS = 10_000
_MAX_HEADER_BYTES = 16 << 20
# Every escape in a JSON text, one at a time; the group is a lone surrogate's.
_ESCAPE = re.compile(
    r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)", re.DOTALL
)


class WireError(ValueError):
    """The bytes are not a message."""


def read_json(raw: bytes) -> Any:
    """What a JSON text from a sandboxed process holds. Raises ValueError, or RecursionError where it is too deep.

    Stricter than `json.loads`: no number but finite ones, and lone surrogates, which no file, log or hash would take,
    become question marks, so that every text that comes out can be encoded.
    """
    text = raw.decode("utf-8")
    if "\\ud" in text or "\\uD" in text:
        text = _ESCAPE.sub(lambda match: "?" if match[1] else match[0], text)
    return json.loads(text, parse_constant=_finite, parse_float=_finite)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:40]} is not a finite number")
    return number


def pack(body: Any, blobs: Sequence[bytes | bytearray | memoryview] = ()) -> bytes:
    """One message: magic, header length, JSON header, then the blobs back to back."""
    header = json.dumps({"body": body, "blobs": [len(b) for b in blobs]}, allow_nan=False).encode()
    return b"".join((_MAGIC, len(header).to_bytes(8, "big"), header, *blobs))


def unpack(raw: bytes) -> tuple[Any, list[memoryview]]:
    """The body and the blobs. Raises WireError on anything that `pack` did not make."""
    view = memoryview(raw)
    if len(view) < 12 or view[:4] != _MAGIC:
        raise WireError("not a message")
    length = int.from_bytes(view[4:12], "big")
    if length > len(view) - 12:
        raise WireError("message is cut off")
    if length > _MAX_HEADER_BYTES:
        raise WireError(f"message header of {length} bytes; the limit is {_MAX_HEADER_BYTES}")
    try:
        header = read_json(bytes(view[12 : 12 + length]))
        body, sizes = header["body"], header["blobs"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise WireError(f"message header is malformed: {type(error).__name__}") from error
    if not isinstance(sizes, list) or len(sizes) > _MAX_BLOBS or any(type(n) is not int or n < 0 for n in sizes):
        raise WireError("blob sizes are malformed")
    if sum(sizes) != len(view) - 12 - length:
        raise WireError("blobs do not fill the message")
    blobs, at = [], 12 + length
    for size in sizes:
        blobs.append(view[at : at + size])
        at += size
    return body, blobs
