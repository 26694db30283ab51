"""Runs PTX on the CPU, the lanes of a group side by side in numpy arrays: what CUDA's compiler made of a kernel can be
tried without a GPU. It knows the instructions that our kernels come to, and stops at any other.

Lanes that part at a branch go on apart, to the end of the kernel; only a group that is still whole may come to a
barrier.
"""

import collections
import re

import numpy as np

TYPES = {"r": "np.uint32", "rd": "np.uint64", "p": "np.bool_"}
WIDTH = {"u32": 32, "s32": 32, "b32": 32, "u64": 64, "s64": 64, "b64": 64, "pred": 1}


class Kernel:
    """An entry point, its basic blocks translated to Python."""

    def __init__(self, ptx: str, name: str) -> None:
        entry = re.search(rf"\.entry {name}\((.*?)\)\n(?:\.\w+[^\n]*\n)*{{(.*?)\n}}", ptx, re.DOTALL)
        assert entry, f"no entry point {name}"
        self.parameters = re.findall(r"\.param \.(\w+) (\w+)", entry[1])
        self.constants = {
            symbol: np.array([int(byte) for byte in data.split(",")], np.uint8).view(np.uint32)
            for symbol, data in re.findall(r"\.const [^;]*?(\w+)\[\d+\] = {([^}]*)}", ptx)
            if symbol in entry[2]
        }
        self.shared, self.shared_bytes = {}, 0
        self.blocks: list[tuple[str, str | None, str | None, str | None]] = []
        self.labels: dict[str, int] = {}
        # Registers that are given a number once are that number; numbers are made once.
        defined = re.findall(r"\t(?!st\.)[a-z][\w.]* +\t?%(\w+), ?(-?\d+;$)?", entry[2], re.MULTILINE)
        times = collections.Counter(register for register, _ in defined)
        self.known = {register: number[:-1] for register, number in defined if number and times[register] == 1}
        self.numbers: dict[str, np.generic] = {}
        lines: list[str] = []
        for line in entry[2].split("\n"):
            line = line.strip().rstrip(";")
            if line.startswith(".shared"):
                align, symbol, size = re.search(r"\.align (\d+) \.b8 (\S+)\[(\d+)\]", line).groups()
                self.shared_bytes = -(-self.shared_bytes // int(align)) * int(align)
                self.shared[symbol] = self.shared_bytes
                self.shared_bytes += int(size)
            elif line.endswith(":"):
                self.close(lines)
                self.labels[line[:-1]] = len(self.blocks)
            elif branch := re.match(r"(?:@(!?)%(\w+)\s+)?(bra|ret)\S*\s*(\S*)$", line):
                negated, predicate, what, target = branch.groups()
                test = predicate and f"{'~' if negated else ''}{predicate}"
                self.close(lines, what, test, target)
            elif (line := line.lstrip("{ \t")) and not line.startswith(".") and line != "}":
                lines.append(self.translate(line))
        self.close(lines, "ret")

    def close(self, lines: list[str], what: str | None = None, test: str | None = None, target: str | None = None) -> None:
        code = compile("\n".join(lines), f"block {len(self.blocks)}", "exec")
        self.blocks.append((code, what, test and compile(test, "test", "eval"), target))
        lines.clear()

    def translate(self, line: str) -> str:
        """An instruction as a Python statement on arrays."""
        opcode, _, rest = line.replace("\t", " ").partition(" ")
        operands = [operand.strip() for operand in re.findall(r"\{[^}]*\}|\[[^\]]*\]|[^,{}\[\]]+", rest) if operand.strip()]
        name, *suffixes = opcode.split(".")
        kind = suffixes[-1] if suffixes else ""
        bits = WIDTH.get(kind, 0)
        to = operands[0].lstrip("%") if operands else ""
        a = [self.value(operand, bits) for operand in operands[1:]]
        match name, suffixes:
            case ("ld", ["param", _]):
                return f"{to} = param['{operands[1][1:-1]}']"
            case ("ld", [space, "v4", "u32"]):
                names = [part.strip().lstrip("%") for part in operands[0][1:-1].split(",")]
                address = self.address(operands[1])
                return "; ".join(f"{part} = load('{space}', {address}, {4 * i})" for i, part in enumerate(names))
            case ("ld", [space, "u64"]):
                halves = [f"wide(load('{space}', {self.address(operands[1])}, {more}))" for more in (0, 4)]
                return f"{to} = {halves[0]} | {halves[1]} << np.uint64(32)"
            case ("ld", [space, "u32"]):
                return f"{to} = load('{space}', {self.address(operands[1])})"
            case ("st", [space, "v4", "u32"]):
                parts = [self.value(part.strip(), 32) for part in operands[1][1:-1].split(",")]
                address = self.address(operands[0])
                return "; ".join(f"store('{space}', {address}, {part}, {4 * i})" for i, part in enumerate(parts))
            case ("st", [space, "u32"]):
                return f"store('{space}', {self.address(operands[0])}, {self.value(operands[1], 32)})"
            case ("atom", ["global", "add", "u32"]):
                return f"{to} = atomic_add({self.address(operands[1])}, {self.value(operands[2], 32)})"
            case ("bar", ["sync"]):
                return "barrier()"
            case ("shfl", ["sync", "idx", "b32"]):
                lane = f"shuffled(tid_x, {a[1]}, {a[2]})"
                return f"shuffle(); {to.split('|')[0]} = ({a[0]} + np.zeros_like(tid_x))[{lane}]"
            case ("mov", ["b64"]) if operands[0].startswith("{"):
                halves = [half.strip().lstrip("%") for half in operands[0][1:-1].split(",")]
                shifts = [f"{half} = ({a[0]} >> np.uint64({32 * i})).astype(np.uint32)" for i, half in enumerate(halves)]
                return "; ".join(shift for shift in shifts if not shift.startswith("dummy"))
            case ("mov", ["b64"]) if operands[1].startswith("{"):
                low, high = (f"wide({self.value(half.strip(), 32)})" for half in operands[1][1:-1].split(","))
                return f"{to} = {low} | {high} << np.uint64(32)"
            case ("not", _):
                return f"{to} = ~{a[0]}"
            case ("min", ["u32"]):
                return f"{to} = np.minimum({a[0]}, {a[1]})"
            case ("div", ["u32"]):
                return f"{to} = {a[0]} // {a[1]}"
            case ("or", ["pred"]):
                return f"{to} = {a[0]} | {a[1]}"
            case ("mov" | "cvta", _):
                return f"{to} = {a[0]} + zero"  if kind != "pred" else f"{to} = {a[0]}"
            case ("cvt", [narrow, _]):
                return f"{to} = ({self.value(operands[1], 64)}).astype({'np.uint32' if narrow == 'u32' else 'np.uint64'})"
            case ("mul" | "mad", ["wide", "u32"]):
                factor = self.value(operands[2], 32)
                factor = self.value(str(int(self.numbers[factor])), 64) if factor in self.numbers else f"wide({factor})"
                product = f"wide({self.value(operands[1], 32)}) * {factor}"
                return f"{to} = {product}" + (f" + {self.value(operands[3], 64)}" if name == "mad" else "")
            case ("mul", ["hi", "u32"]):
                return f"{to} = (wide({a[0]}) * wide({a[1]}) >> np.uint64(32)).astype(np.uint32)"
            case ("mul", ["lo", _]):
                return f"{to} = {a[0]} * {a[1]}"
            case ("mad", ["lo", _]):
                return f"{to} = {a[0]} * {a[1]} + {a[2]}"
            case ("add" | "sub" | "and" | "or" | "xor", _):
                return f"{to} = {a[0]} {dict(add='+', sub='-', xor='^', **{'and': '&', 'or': '|'})[name]} {a[1]}"
            case ("shl" | "shr", [kind]) if kind[0] in "ub":
                shift = "<<" if name == "shl" else ">>"
                amount = self.value(operands[2], 32)
                return f"{to} = {a[0]} {shift} np.asarray({amount}).astype(np.uint{bits})"
            case ("shf", [direction, "wrap", "b32"]):
                if a[0] == a[1] and a[2] in self.numbers:
                    right = int(self.numbers[a[2]]) % 32 if direction == "r" else 32 - int(self.numbers[a[2]]) % 32
                    return f"{to} = {a[0]} >> {self.value(str(right), 32)} | {a[0]} << {self.value(str(32 - right), 32)}"
                double = f"(wide({a[1]}) << np.uint64(32) | wide({a[0]}))"
                amount = f"(wide({a[2]}) & np.uint64(31))"
                shift = amount if direction == "r" else f"np.uint64(32) - {amount}"
                return f"{to} = ({double} >> ({shift})).astype(np.uint32)"
            case ("prmt", ["b32"]):
                return f"{to} = permute({a[0]}, {a[1]}, {a[2]})"
            case ("bfi", _):
                return f"{to} = insert({a[0]}, {a[1]}, {int(operands[3])}, {int(operands[4])}, {bits})"
            case ("setp", [relation, kind]) if kind[0] in "ub" or relation in ("eq", "ne"):
                sign = {"lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!="}[relation]
                return f"{to} = {a[0]} {sign} {a[1]}"
        raise NotImplementedError(line)

    def value(self, operand: str, bits: int) -> str:
        operand = self.known.get(operand.lstrip("%"), operand)
        if operand.startswith("%"):
            return operand.lstrip("%").replace(".", "_")
        if operand in self.shared:
            return self.value(str(self.shared[operand]), bits)
        if operand in self.constants:
            # Constant symbols lie one after another in their space; there is one in our kernels.
            assert len(self.constants) == 1
            return self.value("0", bits)
        if not re.fullmatch(r"-?\d+", operand):
            return "None"
        if bits < 2:
            return str(int(operand) != 0)
        name = f"n{bits}_{int(operand) % (1 << bits)}"
        self.numbers[name] = {32: np.uint32, 64: np.uint64}[bits](int(operand) % (1 << bits))
        return name

    def address(self, operand: str) -> str:
        base, _, offset = operand[1:-1].partition("+")
        return f"{self.value(base, 64)} + {self.value(offset or '0', 64)}"

    def run(self, groups: int, lanes: int, memory: np.ndarray, arguments: list[int]) -> None:
        """Over so many groups; `memory` is global memory in words, in which pointers are byte offsets. Groups go side by
        side unless they share memory."""
        assert len(arguments) == len(self.parameters), f"{len(self.parameters)} arguments"
        together = 1 if self.shared else groups
        for first in range(0, groups, together):
            lane = np.arange(together * lanes, dtype=np.uint32)
            spaces = {
                "global": memory,
                "shared": np.zeros(self.shared_bytes // 4, np.uint32),
                "const": next(iter(self.constants.values()), None),
            }
            state = self.numbers | {
                "np": np,
                "zero": 0,
                "wide": wide,
                "permute": permute,
                "insert": insert,
                "shuffled": shuffled,
                "param": {
                    name: np.full(len(lane), value, np.uint64 if WIDTH[kind] == 64 else np.uint32)
                    for (kind, name), value in zip(self.parameters, arguments, strict=True)
                },
                "tid_x": lane % lanes,
                "ctaid_x": first + lane // lanes,
                "ntid_x": np.full(len(lane), lanes, np.uint32),
                "load": lambda space, at, more=0: spaces[space][(wide(at) + np.uint64(more)) >> np.uint64(2)],
                "store": lambda space, at, what, more=0: spaces[space].__setitem__(
                    (wide(at) + np.uint64(more)) >> np.uint64(2), what
                ),
                "atomic_add": lambda at, what: atomic_add(memory, wide(at) >> np.uint64(2), what),
            }
            self.run_lanes(state, len(lane))

    def run_lanes(self, state: dict, whole: int) -> None:
        pending = [(0, state)]
        while pending:
            index, state = pending.pop()
            size = len(state["tid_x"])

            def barrier() -> None:
                assert size == whole, "lanes that have parted come to a barrier"

            state["barrier"] = state["shuffle"] = barrier
            while True:
                code, what, test, target = self.blocks[index]
                exec(code, state)
                taken = np.broadcast_to(eval(test, state), size) if test else np.full(size, what is not None)
                if not taken.any():
                    index += 1
                elif taken.all():
                    if what == "ret":
                        break
                    index = self.labels[target]
                else:
                    if what == "bra":
                        pending.append((self.labels[target], part(state, taken)))
                    state, index, size = part(state, ~taken), index + 1, int((~taken).sum())
                    state["barrier"] = lambda: (_ for _ in ()).throw(AssertionError("a barrier after lanes parted"))
                    state["shuffle"] = state["barrier"]


def wide(x: np.ndarray) -> np.ndarray:
    return x.astype(np.uint64)


def part(state: dict, mask: np.ndarray) -> dict:
    """The state of some of the lanes."""
    cut = {name: value[mask] if isinstance(value, np.ndarray) and value.ndim else value for name, value in state.items()}
    return cut | {"param": {name: value[mask] for name, value in state["param"].items()}}


def permute(low: np.ndarray, high: np.ndarray, selector: np.ndarray) -> np.ndarray:
    """Bytes of two words by number (PTX: prmt)."""
    both = np.asarray(high).astype(np.uint64) << np.uint64(32) | low
    result = np.zeros(both.shape, np.uint64)
    for i in range(4):
        byte = np.asarray(selector).astype(np.uint64) >> np.uint64(4 * i) & np.uint64(7)
        result |= (both >> np.uint64(8) * byte & np.uint64(255)) << np.uint64(8 * i)
    return result.astype(np.uint32)


def shuffled(lane: np.ndarray, source: np.ndarray, clamp: np.ndarray) -> np.ndarray:
    """The lanes of the group that lanes read from (PTX: shfl.sync.idx). Bits 8 to 12 of `clamp` are those of a lane's
    number in its warp that stay as they are."""
    segment = np.asarray(clamp).astype(np.uint32) >> np.uint32(8) & np.uint32(31)
    within = lane & segment & np.uint32(31) | np.asarray(source).astype(np.uint32) & ~segment & np.uint32(31)
    return lane & ~np.uint32(31) | within


def insert(field: np.ndarray, into: np.ndarray, position: int, length: int, bits: int) -> np.ndarray:
    """A field of bits put into a word (PTX: bfi)."""
    kind = np.uint64 if bits == 64 else np.uint32
    mask = kind(((1 << length) - 1 << position) % (1 << bits))
    return into & ~mask | field << kind(position) & mask


def atomic_add(memory: np.ndarray, at: np.ndarray, what: np.ndarray) -> np.ndarray:
    """One lane after another."""
    before = np.zeros(len(at), np.uint32)
    for lane, place in enumerate(at):
        before[lane] = memory[place]
        memory[place] += what[lane] if np.ndim(what) else what
    return before
