"""Messages as hostile data: only what `pack` makes is read, and every text that comes out can be encoded."""

from __future__ import annotations

import pytest

from sandbox.interpret import unpack_tensor
from sandbox.wire import WireError, pack, unpack


def forged(header: bytes, blobs: bytes = b"") -> bytes:
    return b"KLW1" + len(header).to_bytes(8, "big") + header + blobs


def test_a_message_survives() -> None:
    body, blobs = unpack(pack({"text": "a\\ud800 \N{GRINNING FACE} \n", "number": 1.5}, [b"ab", b""]))
    assert body == {"text": "a\\ud800 \N{GRINNING FACE} \n", "number": 1.5}
    assert [bytes(b) for b in blobs] == [b"ab", b""]


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_are_not_finite_are_refused(number: str) -> None:
    with pytest.raises(WireError):
        unpack(forged(b'{"body": %s, "blobs": []}' % number.encode()))


@pytest.mark.parametrize(
    "header",
    [
        b"[" * 100_000,
        b'{"body": 1, "blobs": [1]}',
        b'{"body": 1, "blobs": [-1, 1]}',
        b'{"body": 1}',
        b'{"body": "\xff", "blobs": []}',
        b" " * (17 << 20),
    ],
)
def test_anything_else_is_a_wire_error(header: bytes) -> None:
    with pytest.raises(WireError):
        unpack(forged(header))


def test_lone_surrogates_do_not_come_out() -> None:
    body, _ = unpack(pack({"\udfff": ["\ud800", "a\ud800\ud801b", "\udc00\ud83d"]}))
    assert body == {"?": ["?", "a??b", "??"]}


@pytest.mark.parametrize(
    "head",
    [
        ["float32", [2**70]],
        ["float32", [-1]],
        ["float32", 1],
        ["float32", [True]],
        ["nn", [1]],
        [["float32"], [1]],
        {},
        None,
    ],
)
def test_a_malformed_tensor_is_a_wire_error(head: object) -> None:
    with pytest.raises(WireError):
        unpack_tensor(head, memoryview(bytes(4)))  # type: ignore[arg-type]
