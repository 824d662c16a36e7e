"""Which field of a struct is which attribute of the vCPU, for both directions."""

from ..registers import MSR_APIC_BASE, MSR_EFER, MSR_FS_BASE, MSR_GS_BASE, SEGMENT_NAMES

HELD_VCPU_SECTIONS = (
    "regs", "sregs", "sregs2", "events", "mp_state", "debugregs", "xcrs", "xsave", "msrs", "lapic", "cpuid2", "tsc_khz",
)  # fmt: skip
HELD_VM_SECTIONS = ("clock", "pit2", "pic_master", "pic_slave", "serial", "smi_port", "machine")
"""Sections of state that this machine holds; a state with another one is refused, never stripped."""
DEVICE_MSRS = (MSR_APIC_BASE, MSR_EFER, MSR_FS_BASE, MSR_GS_BASE)
"""MSRs that show what `sregs` carries; they are not saved twice."""
SEGMENTS = tuple((name, number) for number, name in enumerate(SEGMENT_NAMES))
SEGMENT_FIELDS = ("base", "limit", "selector", "type", "present", "dpl", "db", "s", "l", "g", "avl", "unusable")
CONTROL_FIELDS = ("cr0", "cr2", "cr3", "cr4", "efer", "apic_base")
EVENT_FIELDS = (
    ("exception", "injected", "exception_injected"),
    ("exception", "nr", "exception_nr"),
    ("exception", "has_error_code", "exception_has_error_code"),
    ("exception", "pending", "exception_pending"),
    ("exception", "error_code", "exception_error_code"),
    ("interrupt", "injected", "interrupt_injected"),
    ("interrupt", "nr", "interrupt_nr"),
    ("interrupt", "soft", "interrupt_soft"),
    ("nmi", "injected", "nmi_injected"),
    ("nmi", "pending", "nmi_pending"),
    ("nmi", "masked", "nmi_masked"),
    ("", "sipi_vector", "sipi_vector"),
    ("smi", "smm", "smm"),
    ("smi", "pending", "smi_pending"),
    ("smi", "smm_inside_nmi", "smm_inside_nmi"),
    ("smi", "latched_init", "latched_init"),
    ("triple_fault", "pending", "triple_fault"),
    ("", "exception_has_payload", "exception_has_payload"),
    ("", "exception_payload", "exception_payload"),
)
"""Rows (member of kvm_vcpu_events, field, attribute of CpuState); the two shadows are apart."""
INT_SHADOW_OFFSET = {True: 0xFECB, False: 0xFF1A}
"""Where SMRAM holds the shadow, by "the CPU model has long mode". Source: Linux 6.12 arch/x86/kvm/smm.h."""
