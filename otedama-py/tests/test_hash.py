"""Digests against published answers, and against hashlib."""

import hashlib
import random

import pytest

import otedama
from conftest import GENESIS, GENESIS_HASH, RANDOMX_KEY, cases


def raw(digits: str) -> bytes:
    return bytes.fromhex(digits)


def test_sha256d_matches_block_headers() -> None:
    known = cases("sha256d", "block_header")
    headers = b"".join(raw(case["header"]) for case in known)
    for case, digest in zip(known, otedama.hash_many("sha256d", headers), strict=True):
        assert digest == raw(case["hash_raw"]), case["id"]
        assert otedama.hash("sha256d", raw(case["header"])) == digest, case["id"]


def test_scrypt_matches_block_headers() -> None:
    known = cases("scrypt", "block_header")
    headers = b"".join(raw(case["scrypt_input"]) for case in known)
    for case, digest in zip(known, otedama.hash_many("scrypt", headers), strict=True):
        assert digest == raw(case["pow_hash_raw"]), case["id"]
    assert otedama.hash("scrypt", raw(known[0]["scrypt_input"])) == raw(known[0]["pow_hash_raw"])


@pytest.mark.parametrize(("algorithm", "variant"), [("randomx", "rx/0"), ("randomx-v2", "rx/2")])
def test_randomx_matches(store: otedama.EpochStore, algorithm: str, variant: str) -> None:
    known = [case for case in cases("randomx", "hash") if case["algo"] == variant]
    known = [case for case in known if raw(case["key"]) == RANDOMX_KEY]
    assert known
    with store.get(algorithm, RANDOMX_KEY) as epoch:
        for case in known:
            assert otedama.hash(algorithm, raw(case["input"]), epoch=epoch) == raw(case["hash"]), case["id"]


def test_ethash_matches(ethash: otedama.Epoch) -> None:
    for case in [case for case in cases("ethash", "hash_light") if case["epoch"] == 0]:
        header, nonce = raw(case["header_hash"]), int(case["nonce"], 16)
        found = otedama.hash_with_mix("ethash", header, epoch=ethash, nonce=nonce)
        assert found == (raw(case["final_hash"]), raw(case["mix_hash"])), case["id"]
        assert otedama.hash("ethash", header, epoch=ethash, nonce=nonce) == found[0]
        assert otedama.hash_many("ethash", header * 3, epoch=ethash, nonces=[nonce, nonce ^ 1, nonce])[2] == found[0]


def test_etchash_matches_a_block(store: otedama.EpochStore) -> None:
    # Ethereum Classic's block 12500000: the first epochs after ECIP-1099 took effect.
    header = raw("1d225541aeda9d1110b9e61c0c6c81f12376e9b4111472351196b9d557ba83d8")
    mix = raw("c280665934366eb1ac3fcf5e6f4e37945e05d764acf2a8106a982826078b613c")
    digest = raw("00000000000069bdf3a3bf3bab6529869d8419e477e53898d6c123d023386b20")
    with store.get("etchash", height=12_500_000) as epoch:
        assert (epoch.algorithm, epoch.key, epoch.depth) == ("etchash", 208, "light")
        found = otedama.hash_with_mix(
            "etchash", header, epoch=epoch, nonce=0x431D_9C18_3983_8EA1, height=12_500_000
        )
    assert found == (digest, mix)


def test_kawpow_matches(kawpow: otedama.Epoch) -> None:
    known = [case for case in cases("kawpow", "hash") if case["epoch"] == 0 and case["variant"] == "kawpow"]
    assert known
    for case in known:
        header, nonce, height = raw(case["header_hash"]), int(case["nonce"], 16), case["height"]
        found = otedama.hash_with_mix("kawpow", header, epoch=kawpow, nonce=nonce, height=height)
        assert found == (raw(case["final_hash"]), raw(case["mix_hash"])), case["id"]


def test_random_inputs_hash_as_hashlib_does() -> None:
    chance = random.Random(5)
    for count in (0, 1, 2, 15, 16, 17, 600):
        headers = chance.randbytes(80 * count)
        rows = [headers[i : i + 80] for i in range(0, len(headers), 80)]
        expected = [hashlib.sha256(hashlib.sha256(row).digest()).digest() for row in rows]
        assert list(otedama.hash_many("sha256d", headers)) == expected
        assert [otedama.hash("sha256d", row) for row in rows[:20]] == expected[:20]
    for _ in range(20):
        row = chance.randbytes(80)
        assert otedama.hash("scrypt", row) == hashlib.scrypt(row, salt=row, n=1024, r=1, p=1, dklen=32)


def test_any_input_hashes_as_hashlib_does() -> None:
    hypothesis = pytest.importorskip("hypothesis", reason="hypothesis is not installed")

    @hypothesis.given(hypothesis.strategies.binary(max_size=300))  # type: ignore[untyped-decorator]
    def double(data: bytes) -> None:
        expected = hashlib.sha256(hashlib.sha256(data).digest()).digest()
        assert otedama.hash("sha256d", data) == otedama.hash("sha256d", bytearray(data)) == expected

    @hypothesis.given(hypothesis.strategies.lists(hypothesis.strategies.binary(min_size=80, max_size=80)))  # type: ignore[untyped-decorator]
    def scrypt(rows: list[bytes]) -> None:
        expected = [hashlib.scrypt(row, salt=row, n=1024, r=1, p=1, dklen=32) for row in rows]
        assert list(otedama.hash_many("scrypt", b"".join(rows))) == expected

    double()
    scrypt()


def test_missing_and_wrong_epochs_are_said(ethash: otedama.Epoch, randomx: otedama.Epoch) -> None:
    with pytest.raises(otedama.EpochError, match="randomx needs an epoch"):
        otedama.hash("randomx", b"")
    with pytest.raises(otedama.EpochError, match="was given"):
        otedama.hash("randomx", b"", epoch=ethash)
    with pytest.raises(otedama.EpochError, match="block 30000 is of ethash epoch 1: ethash epoch 0 was given"):
        otedama.hash("ethash", bytes(32), epoch=ethash, nonce=0, height=30_000)
    with pytest.raises(otedama.EpochError, match="was given"):
        otedama.hash_many("ethash", bytes(32), epoch=randomx, nonces=[0])


def test_wrong_arguments_are_named(kawpow: otedama.Epoch, ethash: otedama.Epoch) -> None:
    wrong = [
        (("sha256", b""), {}, "unknown algorithm 'sha256': expected one of sha256d, scrypt"),
        (("sha256d", "text"), {}, "data is a .*str.*: expected a contiguous buffer"),
        (("sha256d", GENESIS), {"nonce": 1}, "takes neither nonce nor height"),
        (("ethash", bytes(32)), {"epoch": ethash}, "expected a nonce beside each"),
        (("ethash", bytes(31)), {"epoch": ethash, "nonce": 1}, "has 31 bytes: expected 32"),
        (("kawpow", bytes(32)), {"epoch": kawpow, "nonce": 1}, "expected height="),
        (("scrypt", bytes(79)), {}, "79 bytes: expected"),
    ]
    for arguments, named, message in wrong:
        with pytest.raises(otedama.InputError, match=message) as caught:
            otedama.hash(*arguments, **named)  # type: ignore[arg-type]
        assert isinstance(caught.value, ValueError) and isinstance(caught.value, otedama.Error)
    with pytest.raises(TypeError):
        otedama.hash("ethash", bytes(32), epoch=b"", nonce=0)  # type: ignore[arg-type]
    assert otedama.hash("sha256d", GENESIS) == GENESIS_HASH
