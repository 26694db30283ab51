"""The GIL, signals, threads that share, and memory that comes back."""

import gc
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import otedama
from conftest import GENESIS, GENESIS_TARGET

HOPELESS = 1  # a target that nothing meets


def busy() -> None:
    """Half a second and more of hashing in one call."""
    next(otedama.Scanner(otedama.Job("sha256d", GENESIS, HOPELESS), count=500_000, kernel="portable"), None)


def hashing() -> None:
    otedama.hash_many("scrypt", bytes(80 * 6000))


def building() -> None:
    otedama.EpochStore(threads=1).get("randomx", b"gil")


def benching() -> None:
    otedama.bench("sha256d", seconds=0.3, threads=1)


@pytest.mark.parametrize("work", [busy, hashing, building, benching])
def test_the_gil_is_released(work: Callable[[], None]) -> None:
    ended = threading.Event()
    steps = 0

    def count() -> None:
        nonlocal steps
        while not ended.is_set():
            steps += 1
            time.sleep(0.001)

    other = threading.Thread(target=count)
    other.start()
    begun = time.monotonic()
    work()
    took = time.monotonic() - begun
    ended.set()
    other.join()
    # With the GIL held there would be a step or two; a busy machine may slow the others.
    assert took > 0.05 and steps > took / 0.02, f"{steps} steps in {took:.2f} s"


CALLS = {
    "scan": "next(otedama.Scanner(job))",
    "engine": "next(otedama.Engine(job))",
    "hash_many": "otedama.hash_many('scrypt', bytes(80 * 2_000_000))",
    "hash_many, slow": "otedama.hash_many('randomx', memoryview(bytes(10**6)).cast('B', (10**4, 100)), epoch=light)",
    "build": "otedama.EpochStore(threads=1).get('ethash', 400, depth='full')",
    "bench": "otedama.bench('sha256d', seconds=600)",
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
def test_ctrl_c_ends_a_long_call(call: str) -> None:
    program = f"""
import otedama, signal, sys, time
# Started in the background, a program may have been told to ignore Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)
job = otedama.Job("sha256d", bytes(80), 1)
light = otedama.EpochStore().get("randomx", b"key") if "light" in {call!r} else None
print("ready", flush=True)
try:
    {call}
except KeyboardInterrupt:
    print("interrupted", time.monotonic(), flush=True)
    sys.exit(3)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None and child.stdout.readline() == "ready\n"
        time.sleep(0.7)
        assert child.poll() is None, "the call ended by itself"
        sent = time.monotonic()
        child.send_signal(signal.SIGINT)
        said = child.stdout.readline().split()
        assert child.wait(timeout=20) == 3 and said[0] == "interrupted"
        # Some 20 ms, and what a busy machine adds.
        assert float(said[1]) - sent < 1.0, f"{float(said[1]) - sent:.3f} s"


def test_what_a_progress_callback_raises_ends_the_build() -> None:
    def stop(done: int, total: int) -> None:
        seen.append((done, total))
        raise LookupError("enough")

    seen: list[tuple[int, int]] = []
    store = otedama.EpochStore(threads=1)
    with pytest.raises(LookupError, match="enough"):
        store.get("randomx", b"stop", progress=stop)
    assert len(seen) == 1
    seen.clear()
    epoch = store.get("randomx", b"stop", progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (256 << 20, 256 << 20) and seen == sorted(seen)
    assert epoch.cache.nbytes == 256 << 20


def test_threads_share_stores_epochs_and_scanners() -> None:
    store = otedama.EpochStore()
    scanner = otedama.Scanner(otedama.Job("sha256d", GENESIS, 2**256 // 256), count=200_000)
    epochs: list[otedama.Epoch] = []
    digests: list[bytes] = []
    nonces: list[int] = []

    def work() -> None:
        epoch = store.get("ethash", 0)
        epochs.append(epoch)
        digests.append(otedama.hash("ethash", bytes(32), epoch=epoch, nonce=1))
        nonces.extend(share.nonce for share in scanner)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(epochs) == 8 and len(set(digests)) == 1
    assert store.held_bytes < 2 * epochs[0].cache.nbytes, "built once"
    alone = otedama.Scanner(otedama.Job("sha256d", GENESIS, 2**256 // 256), count=200_000)
    assert sorted(nonces) == [share.nonce for share in alone]


def test_a_borrowed_buffer_cannot_be_resized() -> None:
    headers = bytearray(80 * 6000)
    other = threading.Thread(target=otedama.hash_many, args=("scrypt", headers))
    other.start()
    time.sleep(0.03)
    assert other.is_alive()
    with pytest.raises(BufferError):
        headers.append(0)
    other.join()
    headers.append(0)


def resident_kib() -> int:
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="resident memory is read from /proc")
def test_nothing_leaks(ethash: otedama.Epoch) -> None:
    out = bytearray(32 * 1000)

    def everything() -> None:
        job = otedama.Job("ethash", bytes(32), 2**255, epoch=ethash)
        share = next(otedama.Scanner(job, count=100))
        otedama.verify(job, share.nonce, mix=share.mix)
        otedama.hash_many("sha256d", bytes(80 * 1000), out=out)
        memoryview(otedama.hash_many("sha256d", bytes(80 * 1000)))
        with otedama.EpochStore() as store:
            memoryview(store.get("ethash", 0).cache)
        with otedama.Engine(otedama.Job("sha256d", GENESIS, GENESIS_TARGET), threads=1) as engine:
            engine.stats()
        for wrong in (b"", "text", 1):
            with pytest.raises(otedama.Error):
                otedama.hash_many("sha256d", bytes(80), out=wrong)  # type: ignore[type-var]

    for _ in range(3):
        everything()
    gc.collect()
    before = resident_kib()
    for _ in range(12):
        everything()
    gc.collect()
    # One epoch is 16 MiB, a thousand digests 32 KiB.
    assert resident_kib() - before < 12_000
