"""COMPAT_RULES: what a host must have to hold a machine, one row per rule, a file per area."""

from __future__ import annotations

from itertools import chain

from .clocks import TIME_RULES
from .cpuid import CPUID_RULES
from .cpuid_special import CPUID_SPECIAL_RULES
from .events import EVENT_RULES
from .general import GENERAL_RULES
from .lapic import LAPIC_RULES
from .memory import MEMORY_RULES
from .msr_values import MSR_VALUE_RULES
from .msrs import MSR_RULES
from .nested import NESTED_RULES
from .paravirt import PARAVIRT_RULES
from .registers import REGISTER_RULES
from .smm import SMM_RULES
from .vmx_msrs import VMX_MSR_RULES
from .xsave import XSAVE_RULES

COMPAT_RULES = tuple(
    sorted(
        chain(
            *(GENERAL_RULES, CPUID_RULES, CPUID_SPECIAL_RULES, PARAVIRT_RULES, MSR_RULES, MSR_VALUE_RULES),
            *(VMX_MSR_RULES, REGISTER_RULES, XSAVE_RULES, TIME_RULES, EVENT_RULES, SMM_RULES, NESTED_RULES),
            *(LAPIC_RULES, MEMORY_RULES),
        ),
        key=lambda rule: rule.id,
    )
)
"""Every rule, in order of the ids."""
