import pytest

from emulator import segments
from emulator.bridge import save_sections
from emulator.config import ram_slots
from emulator.cpu import Cpu
from emulator.cpu_model import MODELS
from emulator.memory import GuestMemory
from emulator.segments import Descriptor


@pytest.fixture
def machine_state():
    """Everything a machine is: sections, memory, console."""

    def of(machine):
        return save_sections(machine), bytes(machine.memory.ram), machine.console_bytes()

    return of


GDT, IDT, TSS, CODE, HANDLERS, STACK, STACK_3 = 0x600, 0x2000, 0x700, 0x1000, 0x4000, 0x8000, 0x9000
TABLES = 0x10000
CODE_32, DATA, CODE_32_USER, DATA_USER, CODE_64, CODE_64_USER, TSS_SELECTOR = 8, 0x10, 0x1B, 0x23, 0x28, 0x33, 0x38
DESCRIPTORS = {
    CODE_32: 0x00CF9B000000FFFF,
    DATA: 0x00CF93000000FFFF,
    CODE_32_USER: 0x00CFFB000000FFFF,
    DATA_USER: 0x00CFF3000000FFFF,
    CODE_64: 0x00AF9B000000FFFF,
    CODE_64_USER: 0x00AFFB000000FFFF,
    TSS_SELECTOR: 0x00008B0000000067 | TSS << 16,
    0x48: 0x00009B000000FFFF,  # 16-bit code
    0x50: 0x00CF91000000FFFF,  # read-only data
    0x58: 0x00CF13000000FFFF,  # data, not present
    0x60: 0x0040930000000FFF,  # data of 4 KiB
    0x68: 0x0040970000000FFF,  # expand-down data above 0xFFF
    0x70: 0x0000EC0000080000 | 0x4F00 | 0x2 << 32,  # call gate for anybody to CODE_32:0x4F00, two parameters
}


class RecordingBus:
    """Ports that note writes, and one interrupt controller input."""

    def __init__(self):
        self.written = []
        self.vector = 0x40
        self.tpr = 0

    def port_read(self, port, size):
        return 0x11223344 & (1 << 8 * size) - 1

    def port_write(self, port, size, value):
        self.written.append((port, size, value))

    def acknowledge(self):
        self.cpu.interrupt_line = False
        return self.vector

    def read_tpr(self):
        return self.tpr

    def write_tpr(self, value):
        self.tpr = value

    def apic_base_changed(self, value):
        self.apic_base = value

    def read_apic_msr(self, index):
        return index

    def write_apic_msr(self, index, value):
        self.written.append((index, value))

    def tsc_changed(self):
        pass

    def init(self):
        pass


class Lab:
    """A CPU over 1 MiB that both address spaces see, put into a mode at once; every vector's handler is a HLT."""

    def __init__(self, model="x86-64"):
        self.ram = bytearray(1 << 20)
        self.memory = GuestMemory(ram_slots(1 << 20), self.ram)
        self.bus = RecordingBus()
        self.cpu = self.bus.cpu = Cpu(self.memory, self.bus, MODELS[model])
        self.state = self.cpu.state
        for selector, raw in DESCRIPTORS.items():
            self.put(GDT + (selector & ~7), raw, 8)
        for vector in range(256):
            self.ram[HANDLERS + 8 * vector] = 0xF4

    def put(self, address, value, size):
        self.memory.write(0, address, size, value)

    def get(self, address, size):
        return int.from_bytes(self.ram[address : address + size], "little")

    def _begin(self, code, ip=CODE):
        self.memory.write_bytes(0, ip, bytes.fromhex(code))
        self.state.rip = ip
        self.state.gpr[4] = STACK
        self.cpu.state_changed()
        return self

    def real(self, code, ip=CODE):
        """Real mode with everything based at 0."""
        for vector in range(256):
            self.put(4 * vector, HANDLERS + 8 * vector, 4)
        for segment in self.state.segs:
            segment.load_real(0)
        return self._begin(code, ip)

    def _protected(self, bits, cs, ss, gate_bytes):
        state = self.state
        state.gdtr.base, state.gdtr.limit, state.idtr.base, state.idtr.limit = GDT, 0x7F, IDT, 256 * gate_bytes - 1
        for vector in range(256):
            target = HANDLERS + 8 * vector
            selector = CODE_32 if gate_bytes == 8 else CODE_64
            self.put(IDT + gate_bytes * vector, target & 0xFFFF | selector << 16 | 0x8E00 << 32, 8)
        self.put(TSS + 4, STACK, 8)
        if gate_bytes == 8:
            self.put(TSS + 8, DATA, 4)
        for index in range(6):
            selector = cs if index == 1 else ss
            segments.fill(state.segs[index], Descriptor(DESCRIPTORS[selector], 0, selector))
        segments.fill(state.tr, Descriptor(DESCRIPTORS[TSS_SELECTOR], 0, TSS_SELECTOR))

    def protected(self, code, user=False, ip=CODE):
        """32-bit protected mode, flat, without paging."""
        self.state.cr0 = 0x11
        self._protected(32, CODE_32_USER if user else CODE_32, DATA_USER if user else DATA, 8)
        self._begin(code, ip)
        self.state.gpr[4] = STACK_3 if user else STACK
        return self

    def long(self, code, user=False, ip=CODE):
        """64-bit mode, the low 2 MiB mapped one to one in 4 KiB pages for anybody."""
        state = self.state
        for table in range(3):
            self.put(TABLES + 0x1000 * table, TABLES + 0x1000 * (table + 1) | 7, 8)
        for page in range(256):
            self.put(TABLES + 0x3000 + 8 * page, page << 12 | 7, 8)
        state.cr0, state.cr3, state.cr4, state.efer = 0x80010011, TABLES, 0x20, 0xD00
        self._protected(64, CODE_64_USER if user else CODE_64, DATA_USER if user else DATA, 16)
        self._begin(code, ip)
        self.state.gpr[4] = STACK_3 if user else STACK
        return self

    def pte(self, address):
        """Where the page-table entry of `address` lies in `long` mode."""
        return TABLES + 0x3000 + 8 * (address >> 12)

    def run(self, steps=1):
        self.cpu.run(steps)
        return self

    def pending(self):
        """Vector, error code and payload of the pending exception, or None."""
        s = self.state
        if not s.exception_pending:
            return None
        error_code = s.exception_error_code if s.exception_has_error_code else None
        return s.exception_nr, error_code, s.exception_payload if s.exception_has_payload else None

    def in_handler(self):
        """Vector whose HLT the CPU has just executed, or is about to, or None."""
        vector, rest = divmod(self.state.segs[1].base + self.state.rip - HANDLERS, 8)
        return vector if 0 <= vector < 256 and rest in (0, 1) else None


@pytest.fixture
def lab():
    return Lab


@pytest.fixture
def emulate():
    """Run hex `code` in a mode ('real', 'protected', 'long') with registers set, for as many steps as given."""

    def run(mode, code, steps=1, registers=None, flags=2, **options):
        machine = getattr(Lab(), mode)(code, **options)
        for number, value in (registers or {}).items():
            machine.state.gpr[number] = value
        machine.state.rflags = flags
        machine.cpu.state_changed()
        return machine.run(steps)

    return run
