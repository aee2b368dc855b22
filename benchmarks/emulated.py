"""An emulated Cortex-M4 that runs a C program: unicorn emulates it, and the clang of ziglang compiles the program."""

import collections
import functools
import re
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import unicorn
import ziglang
from elftools.elf.elffile import ELFFile
from unicorn import arm_const

from snnjax.export import c

FLASH = 0x0800_0000
RAM = 0x2000_0000
CALLER = 0x2080_0000  # memory for the image and the result, then the stack
SIZE = 0x0080_0000  # size of each of the three regions, in bytes
RETURN = CALLER - 0x1000  # address to which calls return
UNTOUCHED = 0xA5  # value of unused bytes of the stack
STACK = 0x1_0000  # bytes
STRING_H = """#include <stddef.h>
void *memcpy(void *restrict to, const void *restrict from, size_t count);
void *memset(void *to, int value, size_t count);
int memcmp(const void *left, const void *right, size_t count);
"""
SECTIONS = f"""MEMORY {{ flash : ORIGIN = {FLASH}, LENGTH = {SIZE}   ram : ORIGIN = {RAM}, LENGTH = {SIZE} }}
SECTIONS {{
    .text : {{ *(.text*) }} > flash
    .rodata : {{ *(.rodata*) }} > flash
    /DISCARD/ : {{ *(.ARM.ex*) }}
    .data : {{ *(.data*) }} > ram AT > flash
    .bss : {{ *(.bss*) }} > ram
}}
"""
TARGETS = {
    "hard": ("-target", "thumb-freestanding-eabihf", "-mcpu=cortex_m4+vfp4d16sp"),
    "soft": ("-target", "thumb-freestanding-eabi", "-mcpu=cortex_m4"),
}
"""Compiler options if floats are computed by the processor ("hard"), or by functions of the compiler ("soft")."""
INSTRUCTION = re.compile(rb"(?s).[\xe8-\xff]..|..")
MULTIPLICATION = re.compile(rb"(?s)[^\x90-\x9f\xb0-\xbf]\xfb..|[\x40-\x7f]\x43")  # divisions are excluded


def built(program: c.Program, folder: Path, level: str, floats: str) -> "Board":
    """Compiles a program at a level of optimisation, and loads it into the memory of a `Board`."""
    texts = {f"{program.name}.c": program.source, f"{program.name}.h": program.header}
    for name, text in (texts | {"string.h": STRING_H, "sections.ld": SECTIONS}).items():
        (folder / name).write_text(text)
    compiler = [
        str(Path(ziglang.__file__).parent / "zig"),
        "cc",
        *TARGETS[floats],
        "-std=c99",
        level,
        "-g",
        "-isystem",
        ".",
    ]
    linker = [f"-Wl,-e,{program.name}_classify", "-Wl,-T,sections.ld", "-o", "program"]
    subprocess.run([*compiler, f"{program.name}.c", *linker], cwd=folder, check=True)
    return Board(folder / "program")


class Board:
    """An emulated Cortex-M4 with a loaded program.

    Attributes:
      flash: bytes of code, constants and initial values.
      memory: bytes of static memory, without the stack.
      symbols: the address and size of each function and array, by name.
      counts: whether the instructions of calls are counted, including instructions that a condition skips.
    """

    def __init__(self, path: Path) -> None:
        self.machine: Any = unicorn.Uc(unicorn.UC_ARCH_ARM, unicorn.UC_MODE_THUMB | unicorn.UC_MODE_MCLASS)
        self.machine.ctl_set_cpu_model(arm_const.UC_CPU_ARM_CORTEX_M4)
        for begin in (FLASH, RAM, CALLER):
            self.machine.mem_map(begin, SIZE)
        self.machine.mem_write(CALLER + SIZE - STACK, bytes([UNTOUCHED]) * STACK)
        with path.open("rb") as file:
            program: Any = ELFFile(file)
            for segment in program.iter_segments("PT_LOAD"):
                self.machine.mem_write(segment["p_vaddr"], segment.data())
            sections = [section for section in program.iter_sections() if section["sh_flags"] & 2]  # in memory
            table: Any = program.get_section_by_name(".symtab")
            symbols = [*table.iter_symbols()]
        self.flash = sum(section["sh_size"] for section in sections if section["sh_type"] != "SHT_NOBITS")
        self.memory = sum(section["sh_size"] for section in sections if section["sh_addr"] >= RAM)
        self.symbols = {symbol.name: (symbol["st_value"], symbol["st_size"]) for symbol in symbols}
        self.counts = False
        self._blocks = collections.Counter[tuple[int, int]]()

    def run(self, function: str, image: np.ndarray, *numbers: int) -> tuple[int, int, int]:
        """Calls a function with an image and numbers; returns the decision, instructions and multiplications."""
        result = CALLER + SIZE // 2
        self.machine.mem_write(CALLER, image.tobytes())
        for register, value in enumerate((CALLER, *numbers, result)):
            self.machine.reg_write(arm_const.UC_ARM_REG_R0 + register, value)
        self.machine.reg_write(arm_const.UC_ARM_REG_SP, CALLER + SIZE)
        self.machine.reg_write(arm_const.UC_ARM_REG_LR, RETURN | 1)
        self._blocks.clear()
        hook = None
        if self.counts:
            hook = self.machine.hook_add(unicorn.UC_HOOK_BLOCK, self._count)
            self.machine.ctl_flush_tb()  # code that was translated earlier would not call the hook
        self.machine.emu_start(self.symbols[function][0] | 1, RETURN)
        if hook is not None:
            self.machine.hook_del(hook)
            self.machine.ctl_flush_tb()
        totals = np.zeros(2, np.int64)
        for block, times in self._blocks.items():
            totals += times * np.array(counted(bytes(self.machine.mem_read(*block))))
        decision = int.from_bytes(self.machine.mem_read(result, 2), "little", signed=True)
        return decision, int(totals[0]), int(totals[1])

    def _count(self, _: object, address: int, size: int, __: object) -> None:
        self._blocks[address, size] += 1

    def read(self, symbol: str) -> bytes:
        """The bytes of an array."""
        return bytes(self.machine.mem_read(*self.symbols[symbol]))

    def stack(self) -> int:
        """The maximum number of bytes of the stack that calls have used."""
        content = self.machine.mem_read(CALLER + SIZE - STACK, STACK)
        return len(bytes(content).lstrip(bytes([UNTOUCHED])))


@functools.cache
def counted(code: bytes) -> tuple[int, int]:
    """The number of instructions in Thumb code, and the number of integer multiplications among them."""
    instructions = INSTRUCTION.findall(code)
    return len(instructions), len([each for each in instructions if MULTIPLICATION.fullmatch(each)])
