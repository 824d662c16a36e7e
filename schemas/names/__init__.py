"""Named things have names: register bits, MSRs, CPUID words, vectors, segment types, APIC registers and more.

Tables only, in the kernel's and the manuals' spelling; `schemas.views` decodes state with them.
"""
