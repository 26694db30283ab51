"""Benchmarks, devices, errors, and what the package says of itself."""

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import otedama

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def test_bench_returns_rows() -> None:
    calls: list[tuple[float, float]] = []
    rows = otedama.bench(
        ["sha256d", "scrypt"], threads=[1, 2], seconds=0.2, progress=lambda *now: calls.append(now)
    )
    assert [(row["algorithm"], row["threads"]) for row in rows] == [
        ("sha256d", 1),
        ("sha256d", 2),
        ("scrypt", 1),
        ("scrypt", 2),
    ]
    for row in rows:
        assert row["hashes"] > 100 and row["seconds"] >= 0.2 and row["mode"] is None
        assert row["hashes_per_second"] == pytest.approx(row["hashes"] / row["seconds"])
        assert row["slowest"] <= 0 <= row["fastest"]
    assert calls and all(0 <= fraction <= 1 for fraction, _ in calls)
    html = rows._repr_html_()
    assert html.startswith("<table>") and html.count("<tr>") == 5 and rows[0]["rate"] in html
    assert str(rows).count("\n") == 3 and str(otedama.Bench()) == ""


def test_bench_measures_every_kernel_and_epochs(randomx: otedama.Epoch) -> None:
    rows = otedama.bench("scrypt", kernel="all", threads=1, seconds=0.1)
    assert [row["kernel"] for row in rows] == [name for name, why in otedama.kernels("scrypt") if why is None]
    [row] = otedama.bench("randomx", threads=1, seconds=0.5, epoch=randomx)
    assert (row["mode"], row["threads"]) == ("light", 1)


def test_bench_refuses_what_it_cannot_measure() -> None:
    with pytest.raises(otedama.EpochError, match="kawpow needs an epoch"):
        otedama.bench("kawpow")
    with pytest.raises(otedama.InputError, match="threads"):
        otedama.bench("sha256d", threads=0)
    with pytest.raises(otedama.InputError, match="seconds is 0"):
        otedama.bench("sha256d", seconds=0)
    with pytest.raises(otedama.InputError, match="unknown algorithm"):
        otedama.bench("sha", kernel="all")

    def stop(_fraction: float, _rate: float) -> None:
        raise LookupError("enough")

    with pytest.raises(LookupError, match="enough"):
        otedama.bench("sha256d", seconds=60, progress=stop)


def test_devices_show_themselves() -> None:
    [device] = otedama.devices()
    assert device["id"] == "cpu" and device["cores"] >= 1 and len(device["cpus"]) >= device["cores"]
    assert "sha256d-portable" in device["kernels"]
    html = otedama.devices()._repr_html_()
    assert html.startswith("<table>") and "sha256d-portable" in html and "<script" not in html


def test_epochs_are_refused_by_name() -> None:
    store = otedama.EpochStore(max_bytes=1 << 20)
    wrong = [
        (("sha256d", 0), {}, "sha256d has no epochs"),
        (("ethash",), {}, "number or height="),
        (("ethash", 0), {"height": 1}, "number or height="),
        (("ethash", -1), {}, "expected an epoch's number"),
        (("ethash", b"key"), {}, "expected an epoch's number"),
        (("ethash", 2**31), {}, "epoch"),
        (("ethash", 0), {"depth": "deep"}, "expected 'light' or 'full'"),
        (("randomx",), {}, "randomx needs a key"),
        (("randomx", "text"), {}, "key is a .*str"),
        (("randomx", b""), {}, "key is empty"),
        (("randomx", bytes(61)), {}, "61 bytes is too long"),
        (("randomx", b"key"), {"height": 1}, "leave height out"),
    ]
    for arguments, named, message in wrong:
        with pytest.raises(otedama.InputError, match=message):
            store.get(*arguments, **named)  # type: ignore[arg-type]
    with pytest.raises(otedama.EpochError, match="budget of 1048576"):
        store.get("randomx", b"key")
    store.close()
    with pytest.raises(otedama.InputError, match="the store is closed"):
        store.get("randomx", b"key")
    with pytest.raises(otedama.InputError, match="threads is 0"):
        otedama.EpochStore(threads=0)


def test_errors_are_one_small_tree() -> None:
    kinds = [otedama.InputError, otedama.EpochError, otedama.DeviceError, otedama.Rejected]
    assert all(issubclass(kind, otedama.Error) for kind in kinds)
    assert [kind for kind in kinds if issubclass(kind, ValueError)] == [otedama.InputError]
    assert all(kind.__module__ == "otedama" for kind in kinds)


def test_everything_public_is_documented() -> None:
    for name in otedama.__all__:
        item = getattr(otedama, name)
        assert name == "__version__" or item.__doc__, name
        if isinstance(item, type) and item.__module__.startswith("otedama"):
            for member, value in vars(item).items():
                assert member.startswith("_") or value.__doc__ or not callable(value), f"{name}.{member}"
    assert otedama.__version__ == version("otedama")


@pytest.mark.parametrize("program", ["genesis.py", "threads.py"])
def test_examples_run(program: str, tmp_path: Path) -> None:
    arguments = ["sha256d", "0.2"] if program == "threads.py" else []
    done = subprocess.run(
        [sys.executable, EXAMPLES / program, *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert ("nonce 2083236893" in done.stdout) if program == "genesis.py" else ("H/s" in done.stdout)
    if "no plot" in done.stdout:
        pytest.skip("matplotlib is not installed: the table was checked, the plot was not drawn")


@pytest.mark.parametrize("folder", [EXAMPLES.parent, EXAMPLES.parents[1]], ids=["package", "project"])
def test_the_readme_finds_the_nonce(folder: Path, tmp_path: Path) -> None:
    program = (folder / "README.md").read_text().split("```python\n")[1].split("```")[0]
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.stdout.startswith("2083236893 000000000019d668"), done.stderr
