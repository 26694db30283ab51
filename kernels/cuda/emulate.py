"""Published vectors through the embedded PTX, run on the CPU: what a card would be given, without a card.

    emulate.py      needs the environment of requirements.txt
"""

import json
import pathlib
import re
import struct
import sys
import time

import numpy as np
from ptx_lanes import Kernel

KERNELS = pathlib.Path(__file__).resolve().parent.parent
VECTORS = KERNELS.parent / "otedama-core" / "vectors"
MASK = 0xFFFFFFFF

K = [int(word, 16) for word in re.findall(r"0x([0-9a-f]{8})u", (KERNELS / "common/sha256.h").read_text())[:64]]
IV = [0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19]


def rotate(x: int, n: int) -> int:
    return (x >> n | x << 32 - n) & MASK


def small0(x: int) -> int:
    return rotate(x, 7) ^ rotate(x, 18) ^ x >> 3


def small1(x: int) -> int:
    return rotate(x, 17) ^ rotate(x, 19) ^ x >> 10


def sha256_round(v: list[int], kw: int) -> list[int]:
    """FIPS 180-4, 6.2.2, step 3."""
    a, b, c, d, e, f, g, h = v
    t1 = h + (rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25)) + (e & f ^ ~e & g) + kw
    t2 = (rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22)) + (a & b ^ a & c ^ b & c)
    return [(t1 + t2) & MASK, a, b, c, (d + t1) & MASK, e, f, g]


def compress(state: list[int], block: list[int]) -> list[int]:
    w, v = list(block), state
    for t in range(16, 64):
        w.append((small1(w[t - 2]) + w[t - 7] + small0(w[t - 15]) + w[t - 16]) & MASK)
    for t in range(64):
        v = sha256_round(v, K[t] + w[t])
    return [(x + y) & MASK for x, y in zip(state, v, strict=True)]


def sha256d_words(header: bytes) -> list[int]:
    """The first arguments of sha256d_search."""
    words = list(struct.unpack(">20I", header))
    middle, tail = compress(IV, words[:16]), words[16:19]
    v = middle
    for t in range(3):
        v = sha256_round(v, K[t] + tail[t])
    after = sha256_round(v, K[3])
    w16 = (small0(tail[1]) + tail[0]) & MASK
    w17 = (small1(640) + small0(tail[2]) + tail[1]) & MASK
    schedule = [w16, w17, small1(w16) + tail[2], small1(w17) + small0(1 << 31), small0(w16) + 640, small0(w17) + w16]
    h4 = v[6] + K[4] + (1 << 31)
    return [x & MASK for x in [*middle, *v[:3], v[4], v[5], h4, after[0], after[4], *schedule, 1]]


def hits(memory: np.ndarray) -> list[int]:
    return sorted(int(memory[1 + 2 * i]) for i in range(memory[0]))


def sha256d(ptx: str) -> int:
    kernel, blocks = Kernel(ptx, "sha256d_search"), cases("sha256d.json", "block_header")
    for block in blocks:
        memory, nonce = np.zeros(64, np.uint32), int(block["nonce"])
        first, count = max(0, min(nonce - 100, MASK - 300)), 300
        top = int(block["hash"][:16], 16)
        words = sha256d_words(bytes.fromhex(block["header"]))
        kernel.run(2, 256, memory, [*words, first, count, top, 0, 16])
        assert hits(memory) == [nonce], f"{block['id']}: {hits(memory)}"
    return len(blocks)


def scrypt(ptx: str) -> int:
    begin, fill, mix, end = (Kernel(ptx, f"scrypt_{name}") for name in ("begin", "fill", "mix", "end"))
    scans = cases("scrypt.json", "nonce_scan")[:1]
    for scan in scans:
        words = list(struct.unpack(">19I", bytes.fromhex(scan["header76"])))
        wanted = [solution["nonce"] for solution in scan["solutions"]]
        lanes, first = 64, wanted[0] - 20
        state, rows = 1024, 1 << 20
        memory = np.zeros((rows + lanes * 128 * 1024) // 4, np.uint32)
        begin.run(1, lanes, memory, [*compress(IV, words[:16]), *words, first, lanes, state])
        for kernel in (fill, mix):
            for steps in ((0, 1), (1, 1000), (1000, 1024)):
                kernel.run(1, lanes, memory, [state, rows, lanes, *steps])
        end.run(1, lanes, memory, [state, lanes, first, 60, int(scan["target"][:16], 16), 0, 16])
        assert hits(memory) == [n for n in wanted if first <= n < first + 60], f"{scan['id']}: {hits(memory)}"
    return len(scans)


def ethash(ptx: str) -> int:
    """Datasets from light caches, and searches in them."""
    dag, search = Kernel(ptx, "ethash_dag"), Kernel(ptx, "ethash_search")
    checked = 0
    mocks = cases("ethash.json", "search_mock")[:1]
    caches = {case["seed"]: bytes.fromhex(case["cache"]) for case in cases("ethash.json", "small_cache")}
    for case in mocks + cases("ethash.json", "small_hashimoto"):
        if case in mocks:
            cache = bytes.fromhex(case["mock_fill_word_le"])[::-1] * (case["cache_bytes"] // 8)
            pages, first, count = case["dataset_items1024"], case["start_nonce"], case["iterations"]
            nonce, limit = case["nonce"], case["boundary"]
        else:
            cache = caches.get(case["seed"])
            if cache is None or len(cache) != case["cache_bytes"]:
                continue
            pages, nonce, limit = case["dataset_bytes"] // 128, int(case["nonce"], 16), case["final_hash"]
            first, count = nonce, 1
        # The hits first, then the cache, then the dataset.
        at, dataset = 4096, 4096 + len(cache)
        memory = np.zeros((dataset + pages * 128) // 4, np.uint32)
        memory[at // 4 : dataset // 4] = np.frombuffer(cache, np.uint32)
        items = 2 * pages
        dag.run(-(-items // 128), 128, memory, [at, len(cache) // 64, 256, dataset, 0, items, 0])
        header = struct.unpack("<4Q", bytes.fromhex(case["header_hash"]))
        top = int(limit[:16], 16)
        search.run(1, 128, memory, [dataset, pages, pages, *header, first, count, top, 0, 16])
        assert hits(memory) == [nonce & MASK], f"{case['id']}: {hits(memory)}"
        memory[:4] = 0
        if first == nonce:
            search.run(1, 128, memory, [dataset, pages, pages, *header, first, count, top - 1, 0, 16])
            assert hits(memory) == [], f"{case['id']}: {hits(memory)}"
        checked += 1
    return checked


def cases(file: str, kind: str) -> list[dict]:
    return [case for case in json.loads((VECTORS / file).read_text())["cases"] if case["kind"] == kind]


def main() -> None:
    np.seterr(over="ignore")
    for check in (sha256d, scrypt, ethash):
        begun = time.monotonic()
        number = check((KERNELS / "ptx" / f"{check.__name__}.ptx").read_text())
        print(f"{check.__name__}.ptx: {number} published cases in {time.monotonic() - begun:.1f} s", flush=True)


if __name__ == "__main__":
    sys.exit(main())
