import pytest

from schemas.uapi.cpuid2 import KvmCpuid2, KvmCpuidEntry2
from schemas.uapi.vcpu_events import InterruptShadow


class Memory:
    """Guest memory of one MiB in both address spaces."""

    def __init__(self):
        self.bytes = {}

    def read(self, as_id, gpa, size):
        if gpa + size > 1 << 20:
            raise LookupError(f"no memory at {gpa:#x}")
        return bytes(self.bytes.get((as_id, at), 0) for at in range(gpa, gpa + size))

    def apply(self, writes):
        for write in writes:
            for at, byte in enumerate(write.data):
                self.bytes[write.as_id, write.gpa + at] = byte


@pytest.fixture
def memory():
    return Memory()


def vendor_cpuid(name, *, long_mode):
    words = [int.from_bytes(name.encode()[at : at + 4], "little") for at in (0, 4, 8)]
    leaves = (
        KvmCpuidEntry2(function=0, index=0, flags=0, eax=1, ebx=words[0], edx=words[1], ecx=words[2]),
        KvmCpuidEntry2(function=0x8000_0001, index=0, flags=0, eax=0, ebx=0, ecx=0, edx=long_mode << 29),
    )
    return KvmCpuid2(nent=2, entries=leaves)


@pytest.fixture
def intel(legal_vcpu, changed):
    """A vCPU in SMM on a processor with VMX and long mode; nothing says what was put aside."""
    return changed(
        legal_vcpu,
        {
            "events.flags": 0x3D,
            "events.smi.smm": 1,
            "events.nmi.masked": 1,
            "cpuid2": vendor_cpuid("GenuineIntel", long_mode=True),
        },
    )


@pytest.fixture
def aside(intel, changed):
    """The same with a shadow put aside: masks -> vCPU."""
    return lambda masks: changed(
        intel, {"events.flags": 0x7D, "events.interrupt.shadow": InterruptShadow(current=0, smm=masks)}
    )
