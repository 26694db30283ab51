"""Compiles every kernel for CUDA, without a GPU, and checks what came of it.

    kernels.py figures [--write]    registers, memory and instructions against figures.txt
    kernels.py ptx [--write]        the PTX that the crate holds against what its sources give
    kernels.py limits               what the instructions of sm_90 allow on an H200, from figures.txt

--write puts the new figures or PTX in the place of the old ones. Needs Rust, and an environment with the pinned wheels:

    python3 -m venv target/cuda-venv
    target/cuda-venv/bin/pip install --no-deps -r kernels/cuda/requirements.txt
    target/cuda-venv/bin/python kernels/cuda/kernels.py figures
"""

import argparse
import collections
import ctypes
import dataclasses
import pathlib
import re
import subprocess
import sys
import sysconfig
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
KERNELS = HERE.parent
WHEELS = pathlib.Path(sysconfig.get_paths()["purelib"]) / "nvidia"

# NVRTC 13.0 knows every chip since Turing. PTX that old drivers may have to read comes from 12.0 (PTX ISA 8.0, which
# drivers know since 525): for these kernels the code that ptxas makes of it is the same.
COMPILER = WHEELS / "cu13"
OLD_COMPILER = WHEELS / "cuda_nvrtc"
CHIPS = ["75", "80", "86", "89", "90", "120"]
# The chip whose instructions are counted by the pipe that executes them.
COUNTED = "90"
EMBEDDED_FOR = "75"

# Lanes a clock and multiprocessor on sm_80 and sm_90: 64 for each pipe, 128 instructions issued.
PIPES = {
    "alu": "SHF LOP3 LOP IADD3 VIADD LEA ISETP SEL PRMT IMNMX VIMNMX IABS PLOP3 BMSK SGXT P2R R2P FSEL FSETP FMNMX",
    "imad": "IMAD",
    "xu": "POPC FLO MUFU I2F F2I BREV I2FP F2F",
    "fp64": "DADD DMUL DFMA DSETP",
    "fp32": "FADD FMUL FFMA HFMA2 FCHK",
    "shared": "LDS STS ATOMS LDSM SHFL BAR",
    "global": "LDG STG LD ST LDL STL ATOMG ATOM RED LDGSTS",
    "other": "",
}
PIPE_OF = {opcode: pipe for pipe, opcodes in PIPES.items() for opcode in opcodes.split()}
# The scheduler spaces these four clocks apart where it leaves two for others.
TWO_TURNS = re.compile(r"IMAD\.(WIDE|HI)")


@dataclasses.dataclass
class Figures:
    """What a kernel came to on one chip."""

    registers: int
    stack: int
    shared: int
    instructions: int
    # Of its longest loop, by pipe, in turns; only for the chip that is counted.
    loop: dict[str, int] | None = None

    def numbers(self) -> list[int]:
        return [self.registers, self.stack, self.shared, self.instructions, *(self.loop or {}).values()]

    def __str__(self) -> str:
        line = f"{self.registers:4} {self.stack:6} {self.shared:7} {self.instructions:7}"
        if self.loop is not None:
            line += "  " + " ".join(f"{pipe}={turns}" for pipe, turns in self.loop.items())
        return line


class Nvrtc:
    """A runtime compiler out of a wheel."""

    def __init__(self, wheel: pathlib.Path) -> None:
        # It looks for its builtins by name only.
        for name in sorted(wheel.glob("lib/libnvrtc-builtins.so*")):
            ctypes.CDLL(str(name), ctypes.RTLD_GLOBAL)
        self.library = ctypes.CDLL(str(next(wheel.glob("lib/libnvrtc.so*"))))

    def compile(self, name: str, text: str, target: str, kind: str) -> bytes:
        """`kind` is CUBIN or PTX; `target` sm_90 or compute_75."""
        program = ctypes.c_void_p()
        options = [f"--gpu-architecture={target}".encode()]
        self.call("CreateProgram", ctypes.byref(program), text.encode(), name.encode(), 0, None, None)
        try:
            array = (ctypes.c_char_p * len(options))(*options)
            if self.library.nvrtcCompileProgram(program, len(options), array):
                raise SystemExit(f"{name} for {target}:\n" + self.get(program, "ProgramLog").decode())
            return self.get(program, kind)
        finally:
            self.call("DestroyProgram", ctypes.byref(program))

    def get(self, program: ctypes.c_void_p, what: str) -> bytes:
        size = ctypes.c_size_t()
        self.call(f"Get{what}Size", program, ctypes.byref(size))
        data = ctypes.create_string_buffer(size.value)
        self.call(f"Get{what}", program, data)
        return data.raw if what == "CUBIN" else data.value

    def call(self, function: str, *arguments: object) -> None:
        code = getattr(self.library, "nvrtc" + function)(*arguments)
        if code:
            raise SystemExit(f"nvrtc{function} failed: {code}")


def texts() -> dict[str, tuple[str, str]]:
    """Every build's text, and what it is for, as the crate lists them: `compiled`, `embedded` as PTX too, or the
    `template` of a text that is embedded as PTX and completed by the host."""
    with tempfile.TemporaryDirectory() as directory:
        command = ["cargo", "run", "-q", "--locked", "-p", "otedama-kernels", "--example", "texts", "--", directory]
        listed = subprocess.run(command, cwd=KERNELS, check=True, stdout=subprocess.PIPE, text=True).stdout
        builds = [line.split() for line in listed.splitlines()]
        folder = pathlib.Path(directory)
        return {name: ((folder / f"{name}.cu").read_text(), how) for name, how in builds}


def cuobjdump(cubin: pathlib.Path, what: str) -> str:
    """Its report on a cubin."""
    tool = COMPILER / "bin"
    environment = {"PATH": f"{tool}:/usr/bin:/bin"}
    command = [str(tool / "cuobjdump"), what, str(cubin)]
    return subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout


def measure(cubin: bytes, counted: bool) -> dict[str, Figures]:
    """The figures of each kernel in a cubin."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        path = pathlib.Path(file.name)
        usage, code = cuobjdump(path, "-res-usage"), cuobjdump(path, "-sass")
    resources = {
        name: {key: int(number) for key, number in re.findall(r"(\w+):(\d+)", line)}
        for name, line in re.findall(r"Function (\w+):\n(.*)", usage)
    }
    figures = {}
    for part in code.split("Function : ")[1:]:
        name = part.split()[0]
        listing = re.findall(r"/\*([0-9a-f]{4,})\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_.]*)([^;]*);", part)
        listing = [(int(address, 16), opcode, rest) for address, opcode, rest in listing if opcode != "NOP"]
        used = resources[name]
        figures[name] = Figures(
            used["REG"],
            used["STACK"] + used["LOCAL"],
            used["SHARED"],
            len(listing),
            turns(longest_loop(listing)) if counted else None,
        )
    return figures


def longest_loop(listing: list[tuple[int, str, str]]) -> list[str]:
    """The opcodes from a backward branch's target to it, where there are most of them; all of them in a kernel whose
    code is passed through once."""
    best = [opcode for _, opcode, _ in listing]
    loops = []
    for address, opcode, rest in listing:
        target = re.search(r"0x([0-9a-f]+)", rest) if opcode == "BRA" else None
        # A kernel ends in a branch to itself.
        if target and int(target[1], 16) < address:
            loops.append([op for at, op, _ in listing if int(target[1], 16) <= at <= address])
    return max(loops, key=len, default=best)


def turns(opcodes: list[str]) -> dict[str, int]:
    """Turns that a warp's instructions take of each pipe, in units of what the pipe does at full rate; in all, `issue`."""
    count: collections.Counter[str] = collections.Counter()
    for opcode in opcodes:
        pipe = PIPE_OF.get(opcode.split(".")[0], "other")
        count[pipe] += 2 if TWO_TURNS.match(opcode) else 1
    return {"issue": len(opcodes)} | {pipe: count[pipe] for pipe in PIPES if count[pipe]}


def all_figures() -> dict[tuple[str, str, str], Figures]:
    """The figures of each (kernel, build, chip)."""
    compiler = Nvrtc(COMPILER)
    found = {}
    families = set()
    for build, (text, how) in texts().items():
        if how == "template":
            continue
        begun = time.monotonic()
        # A family's other builds are compiled for its oldest chip and the one that is counted.
        family = build.split("-")[0]
        chips = CHIPS if family not in families else [EMBEDDED_FOR, COUNTED]
        families.add(family)
        for chip in chips:
            cubin = compiler.compile(build, text, f"sm_{chip}", "CUBIN")
            for kernel, figures in measure(cubin, chip == COUNTED).items():
                found[kernel, build, chip] = figures
        print(f"{build}: {len(chips)} chips in {time.monotonic() - begun:.1f} s", flush=True)
    return found


HEADING = f"""# Registers, bytes of stack (spills), bytes of shared memory and instructions of every kernel, by chip; compiled
# by NVRTC 13.0.88. On sm_{COUNTED} also the turns its longest loop (or all of it) takes of each pipe:
# IMAD.WIDE and IMAD.HI take two. Made by `kernels/cuda/kernels.py figures --write`.
#
# kernel              build          chip  reg  stack  shared  instr
"""


def write_table(found: dict[tuple[str, str, str], Figures]) -> str:
    lines = [f"{kernel:20}  {build:14} {chip:>4} {figures}" for (kernel, build, chip), figures in found.items()]
    return HEADING + "\n".join(lines) + "\n"


def read_table(text: str) -> dict[tuple[str, str, str], Figures]:
    found = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            kernel, build, chip, *rest = line.split()
            loop = {key: int(number) for key, number in (item.split("=") for item in rest[4:])}
            found[kernel, build, chip] = Figures(*map(int, rest[:4]), loop=loop or None)
    return found


def close(old: Figures, new: Figures) -> bool:
    """Within two per cent; spills, and which pipes are used, exactly."""
    if old.stack != new.stack or (old.loop or {}).keys() != (new.loop or {}).keys():
        return False
    return all(abs(a - b) <= max(2, 0.02 * a) for a, b in zip(old.numbers(), new.numbers(), strict=True))


def figures(write: bool) -> bool:
    found, table = all_figures(), HERE / "figures.txt"
    if write:
        table.write_text(write_table(found))
        return True
    wanted, good = read_table(table.read_text()), True
    for key in sorted(wanted.keys() | found.keys()):
        old, new = wanted.get(key), found.get(key)
        if old is None or new is None or not close(old, new):
            print(f"{' '.join(key)}:\n  table {old}\n  found {new}")
            good = False
    print(f"{len(found)} kernels and chips " + ("are as the table says" if good else "differ: see --write"))
    return good


def stripped(ptx: bytes) -> str:
    """PTX without comments, which name the compiler's version, and without names of chips that a built-in header leaves
    behind."""
    text = re.sub(r"//.*|^\.global .*nv6target.*", "", ptx.decode(), flags=re.MULTILINE)
    return "\n".join(line.rstrip() for line in text.splitlines() if line.strip()) + "\n"


def ptx(write: bool) -> bool:
    compiler, folder, good = Nvrtc(OLD_COMPILER), KERNELS / "ptx", True
    wanted = {
        f"{build}.ptx": stripped(compiler.compile(build, text, f"compute_{EMBEDDED_FOR}", "PTX"))
        for build, (text, how) in texts().items()
        if how != "compiled"
    }
    if write:
        folder.mkdir(exist_ok=True)
        for name, text in wanted.items():
            (folder / name).write_text(text)
    there = {path.name: path.read_text() for path in folder.glob("*.ptx")}
    for name in sorted(wanted.keys() | there.keys()):
        if wanted.get(name) != there.get(name):
            print(f"{name} is not what the sources give: see --write")
            good = False
    print(f"{len(wanted)} files of PTX are " + ("what the sources give" if good else "to be made again"))
    return good


def limits(_: bool) -> bool:
    """Lanes a second that the fullest pipe of an H200 allows: 132 multiprocessors at 1.98 GHz."""
    rate = {"issue": 128, "alu": 64, "imad": 64, "xu": 16, "fp64": 64, "fp32": 128, "shared": 32, "global": 32}
    for (kernel, build, chip), found in read_table((HERE / "figures.txt").read_text()).items():
        if found.loop:
            bounds = {pipe: 132 * 1.98e9 * rate[pipe] / n for pipe, n in found.loop.items() if pipe in rate}
            pipe = min(bounds, key=bounds.__getitem__)
            print(f"{kernel:20} {build:14} {bounds[pipe] / 1e6:12.1f} M passes a second ({pipe})")
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["figures", "ptx", "limits"])
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    if not {"figures": figures, "ptx": ptx, "limits": limits}[arguments.what](arguments.write):
        sys.exit(1)


if __name__ == "__main__":
    main()
