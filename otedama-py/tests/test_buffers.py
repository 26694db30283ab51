"""What may be lent to hash_many, what comes back, and what is refused."""

import gc
import hashlib
from collections.abc import Callable
from typing import Any

import pytest

import otedama
from conftest import GENESIS, GENESIS_HASH

HEADERS = bytes(range(80)) + GENESIS + bytes(80)
EXPECTED = [
    hashlib.sha256(hashlib.sha256(HEADERS[i : i + 80]).digest()).digest() for i in range(0, len(HEADERS), 80)
]


@pytest.mark.parametrize(
    "lend",
    [
        bytes,
        bytearray,
        memoryview,
        lambda headers: memoryview(headers).cast("B", (3, 80)),
        lambda headers: memoryview(bytearray(b"x" + headers))[1:],
    ],
    ids=["bytes", "bytearray", "memoryview", "shaped", "offset"],
)
def test_every_contiguous_buffer_is_read(lend: Callable[[bytes], Any]) -> None:
    assert list(otedama.hash_many("sha256d", lend(HEADERS))) == EXPECTED
    whole = hashlib.sha256(hashlib.sha256(HEADERS).digest()).digest()
    assert otedama.hash("sha256d", lend(HEADERS)) == whole


def test_the_result_is_a_read_only_buffer_of_rows() -> None:
    digests = otedama.hash_many("sha256d", HEADERS)
    view = memoryview(digests)
    assert (view.shape, view.strides, view.format, view.itemsize) == ((3, 32), (32, 1), "B", 1)
    assert view.readonly and view.c_contiguous
    assert bytes(view) == b"".join(EXPECTED) and view[1, 31] == GENESIS_HASH[31]
    assert (len(digests), digests[1], digests[-1]) == (3, GENESIS_HASH, EXPECTED[2])
    for index in (3, -4):
        with pytest.raises(IndexError, match=f"digest {index}: expected one of 3"):
            digests[index]
    del digests
    gc.collect()
    assert bytes(view) == b"".join(EXPECTED)
    assert memoryview(otedama.hash_many("sha256d", b"")).shape == (0, 32)


def test_out_is_written_in_place() -> None:
    out = bytearray(96)
    assert otedama.hash_many("sha256d", HEADERS, out=out) is out
    assert out == b"".join(EXPECTED)
    shaped = memoryview(bytearray(96)).cast("B", (3, 32))
    assert otedama.hash_many("sha256d", HEADERS, out=shaped) is shaped
    assert bytes(shaped) == b"".join(EXPECTED)


def test_an_unusable_out_is_refused_and_left_alone() -> None:
    with pytest.raises(otedama.InputError, match="out is read-only"):
        otedama.hash_many("sha256d", HEADERS, out=bytes(96))
    for length in (95, 97, 0, 192):
        out = bytearray(length)
        with pytest.raises(otedama.InputError, match=r"out has shape \[\d+\]: expected \(3, 32\)"):
            otedama.hash_many("sha256d", HEADERS, out=out)
        assert out == bytes(length)
    both = bytearray(HEADERS + bytes(96))
    view = memoryview(both)
    for start in (0, 100, 239):
        with pytest.raises(otedama.InputError, match="shares memory"):
            otedama.hash_many("sha256d", view[:240], out=view[start : start + 96])
    assert both == HEADERS + bytes(96)
    otedama.hash_many("sha256d", view[:240], out=view[240:])
    assert both[240:] == b"".join(EXPECTED)


def test_strides_wrong_types_and_wrong_sizes_are_refused() -> None:
    with pytest.raises(otedama.InputError, match="strides"):
        otedama.hash_many("sha256d", memoryview(HEADERS * 2)[::2])
    with pytest.raises(otedama.InputError, match="strides"):
        otedama.hash("sha256d", memoryview(GENESIS * 2)[::2])
    with pytest.raises(otedama.InputError, match="headers is a .*memoryview.*unsigned bytes"):
        otedama.hash_many("sha256d", memoryview(HEADERS).cast("I"))
    with pytest.raises(otedama.InputError, match="headers is a .*list"):
        otedama.hash_many("sha256d", [GENESIS])  # type: ignore[call-overload]
    with pytest.raises(otedama.InputError, match=r"shape \[79\]: expected \(n, 80\)"):
        otedama.hash_many("sha256d", bytes(79))
    with pytest.raises(otedama.InputError, match=r"shape \[80, 3\]: expected \(n, 80\)"):
        otedama.hash_many("sha256d", memoryview(HEADERS).cast("B", (80, 3)))
    with pytest.raises(otedama.InputError, match=r"blobs have shape \[240\]: expected \(n, size\)"):
        otedama.hash_many("randomx", HEADERS)


def test_a_released_buffer_is_refused() -> None:
    view = memoryview(bytearray(HEADERS))
    view.release()
    with pytest.raises(otedama.InputError, match="headers is a"):
        otedama.hash_many("sha256d", view)


def test_nonces_must_be_as_many_as_headers(ethash: otedama.Epoch) -> None:
    for nonces in ([], [1], [1, 2, 3]):
        with pytest.raises(otedama.InputError, match="expected 2"):
            otedama.hash_many("ethash", bytes(64), epoch=ethash, nonces=nonces)
    for nonce in (-1, 2**64, "1"):
        with pytest.raises(otedama.InputError, match="below 2\\*\\*64"):
            otedama.hash_many("ethash", bytes(32), epoch=ethash, nonces=[nonce])  # type: ignore[list-item]


def test_an_epochs_memory_is_shown_and_kept_alive() -> None:
    with otedama.EpochStore() as store:
        epoch = store.get("ethash", 0)
        # Appendix J of the yellow paper: 16 MiB less what makes a prime number of items.
        assert store.held_bytes >= 16_776_896
        cache = epoch.cache
        assert (cache.nbytes, cache.format, cache.readonly) == (16_776_896, "B", True)
        assert epoch.dataset is None
        expected = bytes(cache[-64:])
        epoch.close()
    del epoch
    gc.collect()
    # A freed mapping would fault here.
    assert bytes(cache[-64:]) == expected and sum(cache[::65536]) > 0
    with pytest.raises(TypeError):
        cache[0] = 1


def test_views_keep_an_epoch_no_longer_than_they_live() -> None:
    store = otedama.EpochStore(max_bytes=20 << 20)
    view = store.get("ethash", 0).cache
    with pytest.raises(otedama.EpochError, match="needs .* more bytes"):
        store.get("ethash", 1)
    del view
    gc.collect()
    assert store.get("ethash", 1).cache.nbytes > 16_776_896


def test_numpy_lends_and_takes_without_copies() -> None:
    numpy = pytest.importorskip("numpy", reason="numpy is not installed")
    headers = numpy.frombuffer(HEADERS, dtype=numpy.uint8).reshape(3, 80)
    digests = otedama.hash_many("sha256d", headers)
    array = numpy.asarray(digests)
    assert (array.shape, array.dtype) == ((3, 32), numpy.uint8)
    assert array.__array_interface__["data"] == numpy.asarray(digests).__array_interface__["data"]
    assert array.tobytes() == b"".join(EXPECTED)
    out = numpy.zeros((3, 32), dtype=numpy.uint8)
    assert otedama.hash_many("sha256d", headers, out=out) is out
    assert (out == array).all()
    for wrong in (
        headers[:, ::2],
        numpy.asfortranarray(headers),
        headers.astype(numpy.int8),
        headers.astype(numpy.uint16),
        headers[:, :79],
    ):
        with pytest.raises(otedama.InputError):
            otedama.hash_many("sha256d", wrong)
    for wrong in (numpy.zeros((3, 64), dtype=numpy.uint8)[:, ::2], numpy.zeros((32, 3), dtype=numpy.uint8)):
        with pytest.raises(otedama.InputError, match="out"):
            otedama.hash_many("sha256d", headers, out=wrong)
