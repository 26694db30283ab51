"""Proof-of-work hashing: SHA256d, Scrypt, RandomX, Ethash, Etchash and KawPow.

    >>> import otedama
    >>> otedama.hash("sha256d", b"").hex()
    '5df6e0e2761359d30a8275058e299fcc0381534545f55cf43e41983f5d4c9456'

Digests are 32 bytes in the order the function writes them; explorers show those of Bitcoin's family reversed.
Targets are whole numbers. Whatever hashes, builds or waits releases the GIL, and Ctrl-C ends it.
Objects never change and may be shared by threads; scanners and engines hand each share to one taker.
"""

from ._errors import DeviceError, EpochError, Error, InputError, Rejected
from ._otedama import (
    Digests,
    Epoch,
    EpochStore,
    Job,
    Share,
    __version__,
    algorithms,
    bits_from_target,
    difficulty_from_target,
    expected_hashes,
    hash,
    hash_many,
    hash_with_mix,
    kernels,
    target_from_bits,
    target_from_difficulty,
    verify,
)
from ._report import Bench, BenchRow, Device, Devices, bench, devices
from ._search import Engine, EngineStats, Scanner

__all__ = [
    "Bench",
    "BenchRow",
    "Device",
    "DeviceError",
    "Devices",
    "Digests",
    "Engine",
    "EngineStats",
    "Epoch",
    "EpochError",
    "EpochStore",
    "Error",
    "InputError",
    "Job",
    "Rejected",
    "Scanner",
    "Share",
    "__version__",
    "algorithms",
    "bench",
    "bits_from_target",
    "devices",
    "difficulty_from_target",
    "expected_hashes",
    "hash",
    "hash_many",
    "hash_with_mix",
    "kernels",
    "target_from_bits",
    "target_from_difficulty",
    "verify",
]
