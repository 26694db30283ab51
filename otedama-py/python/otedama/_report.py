"""Benchmarks and devices, as plain rows that show themselves in a notebook."""

from collections.abc import Callable, Iterable
from html import escape
from typing import TypedDict

from . import _otedama
from ._errors import DeviceError, InputError


class BenchRow(TypedDict):
    """What was measured of one kernel with some threads."""

    algorithm: str
    kernel: str
    threads: int
    mode: str | None
    """How deep an epoch it hashed with, "light" or "full"; None if the algorithm has none."""
    seconds: float
    hashes: int
    hashes_per_second: float
    slowest: float
    """The slowest tenth of the time against the whole: -0.03 is 3 % slower."""
    fastest: float
    joules: float | None
    """Energy of the processor packages, where the platform tells."""
    rate: str
    """hashes_per_second for people: "40.12 MH/s"."""


class Device(TypedDict):
    """Something to hash with."""

    id: str
    name: str
    features: list[str]
    cores: int
    cpus: list[int]
    nodes: list["Node"]
    caches: list["Cache"]
    huge_pages: list["HugePages"]
    transparent_huge_pages: str
    kernels: list[str]


class Node(TypedDict):
    """A memory node and its CPUs."""

    id: int
    memory_bytes: int | None
    cpus: list[int]


class Cache(TypedDict):
    """A processor cache and the CPUs that share it."""

    level: int
    kind: str
    bytes: int
    cpus: list[int]


class HugePages(TypedDict):
    """A pool of reserved huge pages, counted in pages."""

    page_bytes: int
    total: int
    free: int


class Bench(list[BenchRow]):
    """Rows of a benchmark: `pandas.DataFrame(rows)` takes them, a notebook shows them as a table."""

    def _repr_html_(self) -> str:
        head = ("algorithm", "kernel", "threads", "mode", "rate", "spread")
        return _table(head, (_cells(row) for row in self))

    def __str__(self) -> str:
        lines = [_cells(row) for row in self]
        widths = [max(map(len, column)) for column in zip(*lines)]
        return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


class Devices(list[Device]):
    """What there is to hash with: plain dicts, a table in a notebook."""

    def _repr_html_(self) -> str:
        return "".join(_device(device) for device in self)


def bench(
    algorithms: str | Iterable[str] | None = None,
    /,
    *,
    kernel: str | None = None,
    threads: int | Iterable[int] | None = None,
    seconds: float = 1.0,
    epoch: _otedama.Epoch | None = None,
    progress: Callable[[float, float], object] | None = None,
) -> Bench:
    """Measures hash rates; every result is checked while timing.

    algorithms: a name or several; those without epochs if None. kernel: a kernel's name, or "all" for every one that
    runs here; the fastest if None. threads: how many, or several numbers to compare; one for each core if None.
    seconds: for each row. epoch: what an algorithm with epochs hashes with, EpochStore().get(...): with "light" it
    measures verifying, with "full" searching. progress: called some twenty times a second with the fraction of the
    row that is done and the hashes per second so far.

    Raises InputError, EpochError (an epoch is missing), DeviceError (wrong results). Ctrl-C ends it.
    """
    if isinstance(algorithms, str):
        names = [algorithms]
    else:
        names = ["sha256d", "scrypt"] if algorithms is None else list(algorithms)
    counts = [threads] if threads is None or isinstance(threads, int) else list(threads)
    if any(count is not None and count < 1 for count in counts):
        raise InputError(f"threads is {threads}: expected at least 1")
    rows = Bench()
    for name in names:
        for chosen in _chosen(name, kernel):
            for count in counts:
                rows.append(
                    _otedama.measure(
                        name, kernel=chosen, threads=count, seconds=seconds, epoch=epoch, progress=progress
                    )
                )
    return rows


def devices() -> Devices:
    """What this machine offers to hash with. Sizes are bytes."""
    return Devices([_otedama.machine()])


def _chosen(algorithm: str, kernel: str | None) -> list[str | None]:
    if kernel != "all":
        return [kernel]
    usable: list[str | None] = [name for name, obstacle in _otedama.kernels(algorithm) if obstacle is None]
    if not usable:
        raise DeviceError(f"no {algorithm} kernel can run here")
    return usable


def _cells(row: BenchRow) -> list[str]:
    spread = f"{row['slowest']:+.1%} {row['fastest']:+.1%}"
    return [row["algorithm"], row["kernel"], str(row["threads"]), row["mode"] or "", row["rate"], spread]


def _device(device: Device) -> str:
    rows = [
        ("id", device["id"]),
        ("name", device["name"]),
        ("features", " ".join(device["features"])),
        ("cores", str(device["cores"])),
        ("CPUs", " ".join(map(str, device["cpus"]))),
        ("kernels", ", ".join(device["kernels"])),
    ]
    return _table(("device", ""), rows)


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    def line(tag: str, cells: Iterable[str]) -> str:
        return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    body = "".join(line("td", row) for row in rows)
    return f"<table><thead>{line('th', head)}</thead><tbody>{body}</tbody></table>"
