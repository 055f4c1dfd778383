"""Teaches gdb the environments of a machine: `cargo exo gdb` has gdb read this.

The kernel's debug information says where everything lies; nothing here knows an offset. Programs
are all linked at one address, so the symbols of one are loaded at a time: those of the environment
that has the processor. The command puts before this a table of programs, `PROGRAMS`, and `BOUNDARY`, a file
that says how a backtrace leaves the kernel.
"""

import os
import re
import struct

import gdb

PAGE = 4096
# `boot/src/layout.rs`.
DIRECT_MAP = 0xFFFF_8000_0000_0000
# Registers that a program finds unchanged when it goes on.
SAVED = "rax rbx rcx rdx rsi rdi rbp rsp r8 r9 r10 r11 r12 r13 r14 r15 rip".split()


def read(address, length):
    return gdb.selected_inferior().read_memory(address, length).tobytes()


def word(value):
    """The eight bytes that a value begins with."""
    return int.from_bytes(read(int(value.address), 8), "little")


def bare(value):
    """What is inside of cells and types that wrap one field."""
    while value.type.strip_typedefs().code in (gdb.TYPE_CODE_STRUCT, gdb.TYPE_CODE_UNION):
        fields = [field for field in value.type.fields() if field.type.sizeof]
        if len(fields) != 1:
            break
        value = value[fields[0]]
    return value


def static(name):
    symbol = gdb.lookup_static_symbol(name) or gdb.lookup_global_symbol(name)
    if symbol is None:
        raise gdb.GdbError(f"the kernel has no {name}: is it built with debug information?")
    return symbol.value()


def at(kind, address):
    return gdb.Value(address).cast(gdb.lookup_type(kind).pointer()).dereference()


def register(name):
    return int(gdb.newest_frame().read_register(name)) & 0xFFFF_FFFF_FFFF_FFFF


class Environment:
    """An environment, by the kernel's object for it."""

    def __init__(self, address):
        self.object = at("exo::state::env::Env", address)
        self.address = address
        self.id = int(bare(self.object["id"]))
        state = bare(self.object["state"])
        names = {field.enumval: field.name.split("::")[-1] for field in state.type.fields()}
        self.state = names.get(int(state), "?")
        self.name, self.program = self.told()

    def told(self):
        """Its name in the manifest, and its program, as far as the command knows it."""
        area = word(self.object["area"])
        if area:
            start = at("exo_abi::environment::UArea", area)["start"]
            block = read(int(start.address), 104)
            if block[:7] == b"EXOSTRT":
                name = block[88:].split(b"\0")[0].decode(errors="replace")
                return name, PROGRAMS.get(name) or found.get(self.id)
        if int(bare(self.object["creator"])) in (0, self.id):
            return "root", PROGRAMS["root"]
        return f"#{self.id}", None

    def children(self):
        following = int(bare(self.object["children"]))
        while following:
            child = Environment(DIRECT_MAP + following * PAGE)
            yield child
            following = int(bare(child.object["next"]))

    def registers(self):
        """Those with which it goes on, while another has the processor."""
        serving = int(bare(self.object["transfer"]["serving"]))
        context = bare(self.object["saved"][serving])
        return {name: int(context[name]) for name in SAVED}

    def page_table(self):
        return int(bare(self.object["root_table"])) * PAGE


def current():
    """The environment that has the processor, and whether the kernel does something for it."""
    cores = static("exo::arch::percpu::CORES")
    first, size = int(cores.address), cores[0].type.sizeof
    bases = {register("gs_base"), register("k_gs_base")}
    for index in range(cores.type.sizeof // size):
        if first + index * size in bases:
            data = word(cores[index]["data"])
            if not data:
                return None
            core = at("exo::state::percore::Core", data)
            running = word(core["running"])
            return Environment(running) if running else None
    return None


def quietly(what):
    """For what may not be there: before the kernel has set itself up there are no environments."""
    try:
        return what()
    except (gdb.MemoryError, gdb.error):
        return None


def everyone():
    """All environments, each behind the one that made it."""
    def below(environment, depth):
        yield environment, depth
        for child in environment.children():
            yield from below(child, depth + 1)

    environment = current()
    if environment is None:
        raise gdb.GdbError("the kernel runs no environment on this processor so far")
    while (creator := int(bare(environment.object["creator"]))) not in (0, environment.id):
        environment = Environment(DIRECT_MAP + creator * PAGE)
    return below(environment, 0)


def text(program):
    """The first page of a program's code: of the first segment of its ELF file that is loaded."""
    with open(program, "rb") as file:
        elf = file.read()
    table, = struct.unpack_from("<Q", elf, 32)
    size, count = struct.unpack_from("<HH", elf, 54)
    for index in range(count):
        kind, _, offset, address = struct.unpack_from("<IIQQ", elf, table + index * size)
        if kind == 1:
            return address, elf[offset:offset + PAGE]
    return 0, b""


def recognise(environment):
    """Which program an environment runs that no manifest names: one of those whose code is there."""
    for program in set(PROGRAMS.values()):
        address, code = text(program)
        if quietly(lambda: read(address, len(code))) == code:
            found[environment.id] = program
            environment.program = program


def quoted(path):
    return re.sub(r"([\s'\"\\])", r"\\\1", path)


loaded = None
# Programs of environments that no manifest names, by number.
found = {}


def load(program):
    """Loads the symbols of a program, and removes those of the one before."""
    global loaded
    if program == loaded or program is None or not os.path.exists(program):
        return
    if loaded is not None:
        gdb.execute(f"remove-symbol-file {quoted(loaded)}", to_string=True)
    gdb.execute(f"add-symbol-file {quoted(program)}", to_string=True)
    loaded = program


def place(address):
    """Where an address is, in words."""
    block = quietly(lambda: gdb.block_for_pc(address))
    while block is not None and block.function is None:
        block = block.superblock
    line = gdb.find_pc_line(address)
    where = f"{address:#x}"
    if block is not None:
        where += f" in {block.function.print_name}"
    if line.symtab is not None:
        where += f" ({os.path.basename(line.symtab.filename)}:{line.line})"
    return where


class Symbols(gdb.Command):
    """Load the symbols of the environment that has the processor. Done at each stop."""

    def __init__(self):
        super().__init__("environment-symbols", gdb.COMMAND_FILES)

    def invoke(self, argument, from_tty):
        environment = quietly(current)
        if environment is not None:
            if environment.program is None:
                recognise(environment)
            load(environment.program)


class Environments(gdb.Command):
    """List the environments: number, state, name, and where each goes on."""

    def __init__(self):
        super().__init__("info environments", gdb.COMMAND_STATUS)

    def invoke(self, argument, from_tty):
        running = current()
        for environment, depth in everyone():
            has_processor = running is not None and running.address == environment.address
            load(environment.program)
            rip = register("rip") if has_processor else environment.registers()["rip"]
            # One that never ran has no registers.
            where = place(rip) if rip else "-"
            mark = "*" if has_processor else " "
            name = "  " * depth + environment.name
            print(f"{mark} {environment.id:<7} {environment.state:<8} {name:<20} {where}")
        if running is not None:
            load(running.program)


class Within(gdb.Command):
    """Do a command where an environment goes on: environment NAME [COMMAND], else backtrace.

The processor has that environment's registers and page table meanwhile, and its own afterwards."""

    def __init__(self):
        super().__init__("environment", gdb.COMMAND_STACK)

    def invoke(self, argument, from_tty):
        name, _, command = argument.partition(" ")
        command = command.strip() or "backtrace"
        named = [it for it, _ in everyone() if name in (it.name, str(it.id))]
        if len(named) != 1:
            raise gdb.GdbError(f"{len(named)} environments are called {name!r}: info environments")
        [environment], running = named, current()
        if running.address == environment.address:
            gdb.execute(command)
            return
        if environment.registers()["rip"] == 0:
            raise gdb.GdbError(f"{name} has not run")
        gdb.newest_frame().select()
        kept, own = {each: register(each) for each in SAVED}, register("cr3")
        try:
            load(environment.program)
            self.put(environment.registers(), environment.page_table())
            gdb.execute(command)
        finally:
            self.put(kept, own)
            load(running.program)

    @staticmethod
    def put(registers, page_table):
        # In Rust a number is no pointer.
        gdb.execute("set language c", to_string=True)
        for name, value in registers.items():
            gdb.execute(f"set ${name} = {value:#x}", to_string=True)
        gdb.execute("set language auto", to_string=True)
        # gdb does not assign to registers that consist of flags. This is QEMU's number for it.
        remote = gdb.selected_inferior().connection
        if int.from_bytes(bytes.fromhex(remote.send_packet("p1d").decode()), "little") != register("cr3"):
            raise gdb.GdbError("this emulator's registers have other numbers than QEMU's")
        remote.send_packet("P1d=" + page_table.to_bytes(8, "little").hex())
        gdb.execute("maintenance flush register-cache", to_string=True)
        gdb.execute("maintenance flush dcache", to_string=True)


class BreakIn(gdb.Command):
    """Stop one environment at a place: break-in NAME LOCATION.

All programs lie at the same addresses: a plain `break` there stops each that comes by."""

    def __init__(self):
        super().__init__("break-in", gdb.COMMAND_BREAKPOINTS)

    def invoke(self, argument, from_tty):
        name, _, location = argument.partition(" ")
        program = PROGRAMS.get(name)
        if program is None or not location:
            raise gdb.GdbError(f"break-in NAME LOCATION; names: {', '.join(sorted(PROGRAMS))}")
        load(program)
        try:
            _, places = gdb.decode_line(location.strip())
        except gdb.error as error:
            raise gdb.GdbError(f"{error} (what is inlined has a line: FILE:LINE)") from error
        for found in places or ():
            Stop(name, found.pc)
            print(f"{name} stops at {place(found.pc)}")


class Stop(gdb.Breakpoint):
    """At an address, not at a symbol: it outlives the symbols."""

    def __init__(self, name, address):
        self.environment = name
        super().__init__(f"*{address:#x}", gdb.BP_HARDWARE_BREAKPOINT)

    def stop(self):
        environment = quietly(current)
        return environment is not None and environment.name == self.environment


Symbols()
Environments()
Within()
BreakIn()
for setting in (
    "confirm off",
    "pagination off",
    "stack-cache off",
    "code-cache off",
):
    gdb.execute(f"set {setting}")
gdb.execute(f"add-symbol-file {quoted(BOUNDARY)}", to_string=True)
gdb.execute("define hook-stop\nenvironment-symbols\nend")
