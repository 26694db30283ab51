"""Hash rate against threads: a table, and a plot where matplotlib is installed.

python threads.py [ALGORITHM] [SECONDS] [PICTURE]
"""

import sys

import otedama


def main(algorithm: str = "sha256d", seconds: str = "1", picture: str = "threads.png") -> None:
    cpus = len(otedama.devices()[0]["cpus"])
    epoch = None
    if algorithm.startswith("randomx"):
        epoch = otedama.EpochStore().get(algorithm, b"otedama bench")
    elif algorithm in ("ethash", "etchash", "kawpow"):
        epoch = otedama.EpochStore().get(algorithm, 0)
    rows = otedama.bench(algorithm, threads=range(1, cpus + 1), seconds=float(seconds), epoch=epoch)
    print(rows)
    try:
        from matplotlib import pyplot
    except ImportError:
        print("matplotlib is not installed: no plot")
        return
    counts = [row["threads"] for row in rows]
    rates = [row["hashes_per_second"] for row in rows]
    figure, axes = pyplot.subplots()
    axes.plot(counts, rates, marker="o", label=rows[0]["kernel"])
    axes.plot(counts, [rates[0] * count for count in counts], linestyle=":", label="in proportion")
    axes.set(xlabel="threads", ylabel="hashes per second", ylim=(0, None), title=algorithm)
    axes.legend()
    figure.savefig(picture)
    print(f"plot in {picture}")


if __name__ == "__main__":
    main(*sys.argv[1:])
