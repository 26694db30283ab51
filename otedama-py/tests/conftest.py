"""What the tests share: published vectors, and epochs that are built once."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

import otedama

VECTORS = Path(__file__).resolve().parents[2] / "otedama-core" / "vectors"

# The header of Bitcoin's genesis block with its nonce; explorers show its hash reversed.
GENESIS = bytes.fromhex(
    "0100000000000000000000000000000000000000000000000000000000000000000000003ba3edfd"
    "7a7b12b27ac72c3e67768f617fc81bc3888a51323a9fb8aa4b1e5e4a29ab5f49ffff001d1dac2b7c"
)
GENESIS_NONCE = 2_083_236_893
GENESIS_HASH = bytes.fromhex("000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f")[::-1]
GENESIS_TARGET = otedama.target_from_bits(0x1D00FFFF)

RANDOMX_KEY = b"test key 000"


def cases(algorithm: str, kind: str) -> list[dict[str, Any]]:
    """The published cases of a kind."""
    document = json.loads((VECTORS / f"{algorithm}.json").read_text())
    found = [case for case in document["cases"] if case["kind"] == kind]
    assert found, f"{algorithm}.json has no case '{kind}'"
    return found


@pytest.fixture(scope="session")
def store() -> otedama.EpochStore:
    return otedama.EpochStore()


@pytest.fixture(scope="session")
def randomx(store: otedama.EpochStore) -> otedama.Epoch:
    return store.get("randomx", RANDOMX_KEY)


@pytest.fixture(scope="session")
def ethash(store: otedama.EpochStore) -> otedama.Epoch:
    return store.get("ethash", 0)


@pytest.fixture(scope="session")
def kawpow(store: otedama.EpochStore) -> otedama.Epoch:
    return store.get("kawpow", 0)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """One line for each reason to skip, as all tests of this project print them."""
    for reason in sorted({report.longrepr[2] for report in terminalreporter.stats.get("skipped", [])}):
        terminalreporter.write_line("SKIPPED: " + reason.removeprefix("Skipped: ").replace(os.linesep, " "))
