"""Messages between trusted processes and sandboxed ones: a JSON body and raw blobs, bounded and never pickled.

Knows nothing of what the messages mean.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

_MAGIC = b"KLW1"
_MAX_BLOBS = 10_000


class WireError(ValueError):
    """The bytes are not a message."""


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
    try:
        header = json.loads(bytes(view[12 : 12 + length]))
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
