"""The interrupt shadow that an SMI puts aside, and the four places in which it has been proposed to travel.

An SMI may come while the one-instruction shadow of STI or MOV SS is in force. Entry puts it aside and clears it, RSM
brings it back, and a migration inside the handler has to carry it. `events_nibble` is the form that we keep; each
carrier encodes the same set of masks into a number of its own (`CARRIERS`). `convert_carrier` moves the shadow of a
whole state from one to another and says what that loses (`LOSSES`).
"""

from .carriers import (
    CARRIERS,
    KVM_STATE_NESTED_SMM_MOV_SS_BLOCKING,
    KVM_STATE_NESTED_SMM_STI_BLOCKING,
    SMRAM_INT_SHADOW_32,
    SMRAM_INT_SHADOW_64,
    CarrierRow,
    SmmCarrier,
    convert,
    decode,
    encode,
)
from .conversion import SHADOW_WORDS, Conversion, SmramWrite, best_carrier, carrier_shadow, convert_carrier
from .events import for_stock_kernel, smm_shadow, with_smm_shadow
from .losses import LOSSES, SMM_SHADOW_LOSSES, LossRow, loss
from .places import MSR_IA32_SMBASE, SVM_VENDORS, VMX_VENDORS, SmramAccess, in_smm, int_shadow_gpa

__all__ = [
    "CARRIERS",
    "KVM_STATE_NESTED_SMM_MOV_SS_BLOCKING",
    "KVM_STATE_NESTED_SMM_STI_BLOCKING",
    "LOSSES",
    "MSR_IA32_SMBASE",
    "SHADOW_WORDS",
    "SMM_SHADOW_LOSSES",
    "SMRAM_INT_SHADOW_32",
    "SMRAM_INT_SHADOW_64",
    "SVM_VENDORS",
    "VMX_VENDORS",
    "CarrierRow",
    "Conversion",
    "LossRow",
    "SmmCarrier",
    "SmramAccess",
    "SmramWrite",
    "best_carrier",
    "carrier_shadow",
    "convert",
    "convert_carrier",
    "decode",
    "encode",
    "for_stock_kernel",
    "in_smm",
    "int_shadow_gpa",
    "loss",
    "smm_shadow",
    "with_smm_shadow",
]
