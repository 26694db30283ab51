"""Targets, jobs, claims, scanners and engines."""

import asyncio

import pytest

import otedama
from conftest import GENESIS, GENESIS_HASH, GENESIS_NONCE, GENESIS_TARGET

EASY = 2**256 // 4096


def genesis(id: int = 0) -> otedama.Job:
    return otedama.Job("sha256d", GENESIS[:76] + bytes(4), GENESIS_TARGET, id=id)


def hits(job: otedama.Job, count: int) -> list[int]:
    """The nonces below count whose digests meet the target, found by hashing each."""
    headers = b"".join(job.header(nonce) for nonce in range(count))
    digests = otedama.hash_many("sha256d", headers)
    return [i for i, digest in enumerate(digests) if int.from_bytes(digest, "little") <= job.target]


def test_targets_difficulties_and_bits_agree() -> None:
    one = 0xFFFF << 208
    assert otedama.target_from_bits(0x1D00FFFF) == one == otedama.target_from_difficulty("sha256d", 1)
    assert otedama.bits_from_target(one) == 0x1D00FFFF
    assert otedama.target_from_difficulty("sha256d", 0.5) == 2 * one
    assert otedama.target_from_difficulty("scrypt", 1) == one << 16
    assert otedama.target_from_difficulty("ethash", 2**32) == 2**224
    assert otedama.target_from_difficulty("randomx", 3) == (2**256 - 1) // 3
    assert otedama.difficulty_from_target("sha256d", one // 1000) == pytest.approx(1000)
    assert otedama.expected_hashes(one) == pytest.approx(2**32, rel=1e-4)
    for wrong in (0, -1, 2**256, 1.5, "1", None):
        with pytest.raises(otedama.InputError, match="expected a (whole )?number from 1 to 2"):
            otedama.expected_hashes(wrong)  # type: ignore[arg-type]
    for wrong in (0, -3, float("nan"), float("inf")):
        with pytest.raises(otedama.InputError, match="difficulty"):
            otedama.target_from_difficulty("sha256d", wrong)
    with pytest.raises(otedama.InputError, match="negative"):
        otedama.target_from_bits(0x01FFFFFF)


def test_jobs_refuse_what_they_cannot_search() -> None:
    with pytest.raises(otedama.InputError, match="sha256d input has 79 bytes: expected 80"):
        otedama.Job("sha256d", bytes(79), EASY)
    with pytest.raises(otedama.InputError, match="leave version_mask out"):
        otedama.Job("ethash", bytes(32), EASY, version_mask=1)
    with pytest.raises(otedama.InputError, match="version mask is zero"):
        otedama.Job("sha256d", GENESIS, EASY, version_mask=0)
    with pytest.raises(otedama.InputError, match="height"):
        otedama.Job("sha256d", GENESIS, EASY, height=1)
    with pytest.raises(otedama.InputError, match="height"):
        otedama.Job("kawpow", bytes(32), EASY)
    with pytest.raises(otedama.InputError, match="range"):
        otedama.Scanner(genesis(), start=2**32)
    with pytest.raises(otedama.InputError, match="range is empty"):
        otedama.Scanner(genesis(), count=0)
    with pytest.raises(otedama.InputError, match="unknown sha256d kernel 'sse9'"):
        otedama.Scanner(genesis(), kernel="sse9")
    with pytest.raises(otedama.EpochError, match="randomx needs an epoch"):
        otedama.Scanner(otedama.Job("randomx", bytes(76), EASY))
    with pytest.raises(otedama.EpochError, match="randomx needs an epoch"):
        otedama.Engine(otedama.Job("randomx", bytes(76), EASY))


def test_a_claim_becomes_a_share_or_is_rejected(ethash: otedama.Epoch) -> None:
    job = genesis(id=7)
    share = otedama.verify(job, GENESIS_NONCE, digest=GENESIS_HASH)
    assert (share.job_id, share.nonce, share.version, share.mix) == (7, GENESIS_NONCE, None, None)
    assert share.digest == GENESIS_HASH and job.header(GENESIS_NONCE) == GENESIS
    with pytest.raises(otedama.Rejected, match="is above the target"):
        otedama.verify(job, GENESIS_NONCE + 1)
    with pytest.raises(otedama.Rejected, match="differs from the one claimed"):
        otedama.verify(job, GENESIS_NONCE, digest=bytes(32))
    with pytest.raises(otedama.Rejected, match="not one the job allows"):
        otedama.verify(job, 2**32)
    with pytest.raises(otedama.InputError, match="digest has 31 bytes"):
        otedama.verify(job, 0, digest=bytes(31))

    # Block 22 of Ethereum's test network PoC 9.
    header = bytes.fromhex("372eca2454ead349c3df0ab5d00b0b706b23e49d469387db91811cee0358fc6d")
    mix = bytes.fromhex("2f74cdeb198af0b9abe65d22d372e22fb2d474371774a9583c1cc427a07939f5")
    nonce = 0x4957_32E0_ED7A_801C
    target = 2**256 // 100_000
    job = otedama.Job("ethash", header, target, height=22, epoch=ethash)
    assert otedama.verify(job, nonce, mix=mix).mix == mix
    with pytest.raises(otedama.Rejected, match="above the target"):
        # Refutes itself: neither an epoch nor a hash is needed.
        otedama.verify(otedama.Job("ethash", header, target), nonce, mix=bytes(32))
    with pytest.raises(otedama.EpochError):
        otedama.verify(otedama.Job("ethash", header, target), nonce, mix=mix)


def test_a_scanner_finds_the_genesis_nonce() -> None:
    scanner = otedama.Scanner(genesis(), start=GENESIS_NONCE - 50_000, count=100_000)
    shares = list(scanner)
    assert [(share.nonce, share.digest) for share in shares] == [(GENESIS_NONCE, GENESIS_HASH)]
    assert (scanner.tried, scanner.done) == (100_000, True)
    assert next(scanner, None) is None


@pytest.mark.parametrize("kernel", [name for name, obstacle in otedama.kernels("sha256d") if not obstacle])
def test_every_kernel_finds_what_hashing_finds(kernel: str) -> None:
    job = otedama.Job("sha256d", GENESIS, EASY)
    expected = hits(job, 50_000)
    assert expected
    assert [share.nonce for share in otedama.Scanner(job, count=50_000, kernel=kernel)] == expected


def test_versions_roll_where_they_may() -> None:
    job = otedama.Job("sha256d", GENESIS, 16 * EASY, version_mask=0x0000_6000)
    scanner = otedama.Scanner(job, count=20_000)
    shares = list(scanner)
    attempts = [(nonce, version) for nonce in range(20_000) for version in (1, 0x2001, 0x4001, 0x6001)]
    digests = otedama.hash_many("sha256d", b"".join(job.header(*attempt) for attempt in attempts))
    expected = [
        attempt
        for attempt, digest in zip(attempts, digests, strict=True)
        if int.from_bytes(digest, "little") <= job.target
    ]
    assert scanner.tried == 80_000 and len(expected) > 100
    assert sorted((share.nonce, share.version) for share in shares) == expected
    for share in shares:
        assert otedama.hash("sha256d", job.header(share.nonce, share.version)) == share.digest
        assert otedama.verify(job, share.nonce, version=share.version) == share


def test_a_flood_of_shares_loses_none() -> None:
    job = otedama.Job("sha256d", GENESIS, 2**256 - 1)
    assert [share.nonce for share in otedama.Scanner(job, count=5000)] == list(range(5000))


def test_epochs_are_searched(randomx: otedama.Epoch, ethash: otedama.Epoch, kawpow: otedama.Epoch) -> None:
    jobs = [
        otedama.Job("randomx", bytes(76), 2**256 // 4, epoch=randomx),
        otedama.Job("ethash", bytes(32), 2**256 // 4, height=1, epoch=ethash),
        otedama.Job("kawpow", bytes(32), 2**256 // 4, height=1, epoch=kawpow),
    ]
    for job in jobs:
        scanner = otedama.Scanner(job, count=40)
        shares = list(scanner)
        assert scanner.tried == 40 and shares
        assert all(otedama.verify(job, share.nonce, mix=share.mix) == share for share in shares)


def test_an_engine_searches_everything_once() -> None:
    # The versions make the space; a rare target makes it quick to go through.
    job = otedama.Job("sha256d", GENESIS, GENESIS_TARGET)
    with otedama.Engine(job, threads=2) as engine:
        engine.replace(otedama.Job("sha256d", GENESIS, EASY, id=3))
        found = {next(engine).nonce for _ in range(200)}
        stats = engine.stats()
        assert len(found) == 200 and stats["alive"] == 2 and stats["refused"] == 0
        with pytest.raises(otedama.InputError, match="this engine searches sha256d"):
            engine.update(otedama.Job("scrypt", GENESIS, EASY))
    assert all(otedama.verify(otedama.Job("sha256d", GENESIS, EASY), nonce) for nonce in found)
    # What was found before the end can still be taken; then there is no more.
    assert engine.stats()["shares"] >= 200 + len(list(engine))
    assert next(engine, None) is None
    with pytest.raises(otedama.InputError, match="stopped"):
        engine.replace(job)
    engine.stop()
    with pytest.raises(otedama.InputError, match="threads is 0"):
        otedama.Engine(job, threads=0)


def test_an_engine_nobody_stops_ends_when_dropped() -> None:
    # Every hash is a share: the workers wait for room when it goes.
    engine = otedama.Engine(otedama.Job("sha256d", GENESIS, 2**256 - 1), threads=2)
    assert next(engine).job_id == 0
    del engine


def test_asyncio_awaits_shares() -> None:
    async def scan() -> list[int]:
        job = otedama.Job("sha256d", GENESIS, EASY)
        return [share.nonce async for share in otedama.Scanner(job, count=50_000)]

    async def first() -> tuple[int, int]:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0.001)

        beside = asyncio.create_task(tick())
        with otedama.Engine(otedama.Job("sha256d", GENESIS, EASY >> 14), threads=1) as engine:
            async for share in engine:
                beside.cancel()
                return share.nonce, ticks
        raise AssertionError("the engine found nothing")

    async def give_up() -> None:
        with otedama.Engine(genesis(), threads=1) as engine:
            await asyncio.wait_for(anext(engine), 0.05)

    async def give_up_scanning() -> None:
        await asyncio.wait_for(anext(otedama.Scanner(genesis(), count=1 << 31)), 0.05)

    job = otedama.Job("sha256d", GENESIS, EASY)
    assert asyncio.run(scan()) == hits(job, 50_000)
    nonce, ticks = asyncio.run(first())
    assert otedama.verify(otedama.Job("sha256d", GENESIS, EASY >> 14), nonce) and ticks > 1
    for hopeless in (give_up, give_up_scanning):
        with pytest.raises(asyncio.TimeoutError):
            asyncio.run(hopeless())
