"""Exceptions of the guest's architecture, and the one that is ours."""

DE, DB, NMI, BP, OF, BR, UD, NM, DF = range(9)
TS, NP, SS, GP, PF = range(10, 15)
MF, AC, MC = 16, 17, 18

CONTRIBUTORY = frozenset({DE, TS, NP, SS, GP})
"""Two of these in a row give #DF. Source: SDM vol. 3A table 6-5."""

NOT_FAULTS = frozenset({DB, BP, OF, DF, MC})
"""Delivered without setting RF in the saved flags. Source: Linux 6.12 arch/x86/kvm/x86.c exception_type()."""

HAS_ERROR_CODE = frozenset({DF, TS, NP, SS, GP, PF, AC})


class GuestFault(Exception):  # noqa: N818 - the manual's word
    """An exception of the guest's architecture: the instruction at hand does not complete.

    `error_code` is None where the vector pushes none. `payload` is the faulting address of #PF (goes to CR2 on
    delivery) or the DR6 bits of #DB, as in kvm_vcpu_events.exception_payload. `keeps_rip` says that RIP is right as it
    is: the fault belongs to a task that has been switched to, not to the instruction at hand.

    Source: SDM vol. 3A chapter 6.
    """

    keeps_rip = False

    def __init__(self, vector: int, error_code: int | None = None, payload: int | None = None) -> None:
        super().__init__(f"vector {vector}, error code {error_code}, payload {payload}")
        self.vector = vector
        self.error_code = error_code
        self.payload = payload


class TripleFault(Exception):  # noqa: N818 - the manual's word
    """The processor gives up: a fault while a double fault was delivered, or an image RSM cannot load."""


class UnsupportedInstruction(Exception):  # noqa: N818 - a named condition, not a mistake of the caller
    """An instruction or operation that the CPU model has and this emulator does not build.

    The state is that before the instruction; it is never a guess. `address` is the linear address and `code` the
    instruction's bytes (empty where the operation is not an instruction).
    """

    def __init__(self, what: str, address: int, code: bytes = b"") -> None:
        super().__init__(f"{what} at linear address {address:#x} ({code.hex(' ') or 'no bytes'}) is not emulated")
        self.what = what
        self.address = address
        self.code = code


def undefined_opcode() -> GuestFault:
    """#UD."""
    return GuestFault(UD)


def general_protection(error_code: int = 0) -> GuestFault:
    """#GP with an error code, by default the null selector."""
    return GuestFault(GP, error_code)


def stack_fault(error_code: int = 0) -> GuestFault:
    """#SS with an error code."""
    return GuestFault(SS, error_code)
