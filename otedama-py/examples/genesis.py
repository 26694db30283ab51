"""Finds the nonce of Bitcoin's genesis block again."""

import otedama

# The 80 bytes of the header; the last four, the nonce, are zero here.
HEADER = bytes.fromhex(
    "0100000000000000000000000000000000000000000000000000000000000000000000003ba3edfd"
    "7a7b12b27ac72c3e67768f617fc81bc3888a51323a9fb8aa4b1e5e4a29ab5f49ffff001d00000000"
)


def main() -> None:
    job = otedama.Job("sha256d", HEADER, otedama.target_from_bits(0x1D00FFFF))
    # Near the nonce, so that it takes a second. Scanner(job) would go through all of them.
    for share in otedama.Scanner(job, start=2_080_000_000, count=10_000_000):
        print(f"nonce {share.nonce}  hash {share.digest[::-1].hex()}")
        assert otedama.verify(job, share.nonce) == share


if __name__ == "__main__":
    main()
