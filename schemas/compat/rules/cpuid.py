"""CPUID against what the host supports: a rule per kind of leaf, over the rows of `cpuid_words`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from ...errors import Severity
from .. import cpuid_words as words
from ..cpuid_names import bit_names
from ..cpuid_view import CpuidView
from ..cpuid_words import Difference, Relation, Word, differences
from ..row import Case, CompatRule, Mismatch, Mismatches

_ERROR, _WARNING = Severity.ERROR, Severity.WARNING

Gate = Callable[[CpuidView], bool]


def describe(found: Difference) -> str:
    """Return in words how a register differs."""
    word = found.word
    if word.relation in (Relation.NOT_GREATER, Relation.EQUAL):
        return f"{word.place}: {word.name} {found.guest:#x}, the host has {found.host:#x}"
    return f"{word.place}: the host lacks {bit_names(word, found.wrong)}"


def compare(rows: tuple[Word, ...], gate: Gate | None, case: Case) -> Mismatches:
    """Yield a mismatch for each register that does not compare; `gate` says for which guests the leaf counts."""
    for where, guest, _ in case.guests:
        if gate is not None and not gate(guest):
            continue
        for found in differences(rows, guest, case.cpu):
            yield Mismatch(
                f"{where}.cpuid2", describe(found), f"{found.guest:#x}", f"{found.host:#x}", found.word.severity
            )


def shown(function: int, subleaf: int, register: str, bit: int) -> Gate:
    """Return a gate that is open for guests that were shown a feature."""
    return lambda guest: guest.bit(function, subleaf, register, bit)  # type: ignore[arg-type]


_MASK = "create the VM with a CPU model without it (mask the bit), or choose a host that has it"


def _rule(
    rule_id: str,
    text: str,
    why: str,
    rows: tuple[Word, ...],
    *,
    severity: Severity = _ERROR,
    hint: str = _MASK,
    source: str = "KVM_GET_SUPPORTED_CPUID; SDM vol. 2A CPUID",
    gate: Gate | None = None,
) -> CompatRule:
    return CompatRule(rule_id, severity, text, why, hint, source, partial(compare, rows, gate))


_UD = "programs that found the feature by CPUID get #UD or wrong results"

CPUID_RULES: tuple[CompatRule, ...] = (
    _rule("CMP-012", "CPU feature", _UD, words.STANDARD),
    _rule(
        "CMP-101", "speculation and further features of leaf 7", "the guest writes MSRs that are not there: #GP",
        words.SPECULATION,
    ),
    _rule("CMP-102", "CPU feature of leaf 7, subleaf 1", _UD, words.STRUCTURED),
    _rule(
        "CMP-103", "x87 behaviour", "FCS and FDS, or the pointers of an exception, are saved otherwise than announced",
        words.ABSENCES, severity=_WARNING, hint="migrate among hosts that agree in it",
        source="SDM vol. 1 8.1.8; CPUID.7.0:EBX bits 6 and 13",
    ),
    _rule(
        "CMP-104", "immunity", "the guest leaves out a mitigation that the host's processor needs", words.ASSURANCES,
        severity=_WARNING, hint="mask the bit when the VM is created, so that the guest mitigates by itself",
    ),
    _rule(
        "CMP-105", "cache line of CLFLUSH", "a flush loop in steps of the larger line leaves lines in the cache",
        words.CLFLUSH_LINE, severity=_WARNING, hint="migrate among hosts with equal lines", gate=shown(1, 0, "edx", 19),
    ),
    _rule("CMP-108", "thermal and power leaf", "the APIC timer may stop in idle, or #GP on APERF and MPERF",
          words.POWER),
    _rule(
        "CMP-109", "performance counters", "counters that the guest programs do not count, or #GP", words.PMU_SIZES,
        hint="create the VM without a PMU, or choose a host whose PMU is not smaller",
        gate=lambda guest: guest.value(0xA, 0, "eax", 0, 8) > 0,
    ),
    _rule(
        "CMP-111", "performance counters of AMD", "counters that the guest programs do not count, or #GP",
        words.PMU_AMD, hint="create the VM without PerfMonV2, or choose a host whose PMU is not smaller",
    ),
    _rule("CMP-112", "XSAVE feature", "XSAVEC, XSAVES, XGETBV(1) or XFD raise #UD or #GP", words.XSAVE_FEATURES),
    _rule(
        "CMP-113", "processor trace", "the guest's trace configuration raises #GP", words.PT_FEATURES,
        gate=shown(7, 0, "ebx", 25),
    ),
    _rule(
        "CMP-114", "processor trace addresses", "a decoder reads LIPs as RIPs, or the other way round", words.PT_LIP,
        hint="migrate among hosts that agree in it", gate=shown(7, 0, "ebx", 25),
    ),
    _rule(
        "CMP-115", "AMX tiles", "tile configurations in use mean other sizes, or raise #GP", words.AMX_TILES,
        gate=shown(7, 0, "edx", 24),
    ),
    _rule("CMP-116", "AMX multiplication", _UD, words.AMX_TMUL, gate=shown(7, 0, "edx", 24)),
    _rule("CMP-117", "AVX10", _UD, words.AVX10, gate=shown(7, 1, "edx", 19)),
    _rule("CMP-118", "SGX", "ENCLS leaves raise #GP", words.SGX, gate=shown(7, 0, "ebx", 2)),
    _rule("CMP-120", "Key Locker", _UD, words.KEY_LOCKER, gate=shown(7, 0, "ecx", 23)),
    _rule("CMP-121", "architectural LBR", "the guest's LBR depth or filter raises #GP", words.ARCH_LBR,
          gate=shown(7, 0, "edx", 19)),
    _rule("CMP-122", "cache monitoring and allocation", "#GP on the MSRs of the leaf", words.RESOURCES),
    _rule(
        "CMP-124", "invariant TSC and power features",
        "the guest trusts that its TSC never stops and never changes its rate", words.POWER_80000007,
        source="APM vol. 3 CPUID Fn8000_0007; SDM vol. 3B 18.17.1",
    ),
    _rule("CMP-125", "feature of leaf 0x80000008", "the guest writes MSRs that are not there, or #UD", words.EXTENDED),
    _rule(
        "CMP-126", "feature of leaf 0x80000021", "the guest relies on a behaviour that this processor lacks",
        words.EXTENDED_2,
    ),
    _rule(
        "CMP-127", "physical address bits", "page table entries of the guest have bits that are reserved here: #PF",
        words.PHYSICAL_BITS, hint="create the VM with fewer physical bits, or choose a host with as many",
        source="APM vol. 3 CPUID Fn8000_0008_EAX; Linux 6.12 api.rst KVM_CAP_SMALLER_MAXPHYADDR",
    ),
    _rule(
        "CMP-128", "linear address bits", "pointers of the guest are not canonical here: #GP", words.LINEAR_BITS,
        hint="create the VM without LA57, or choose a host that has it",
        source="APM vol. 3 CPUID Fn8000_0008_EAX; Linux 6.12 arch/x86/kvm/cpuid.c kvm_check_cpuid",
    ),
    _rule(
        "CMP-129", "nested SVM feature", "VMRUN of the guest's guests fails or ignores what was asked", words.SVM,
        source="APM vol. 3 CPUID Fn8000_000A", gate=shown(0x80000001, 0, "ecx", 2),
    ),
    _rule(
        "CMP-130", "memory encryption", "the guest's memory could not be decrypted", words.ENCRYPTION,
        source="APM vol. 3 CPUID Fn8000_001F", hint="create the VM without SEV",
    ),
    _rule(
        "CMP-131", "place of the encryption bit", "the guest's page tables mark the wrong bit", words.ENCRYPTION_BIT,
        source="APM vol. 3 CPUID Fn8000_001F_EBX", hint="migrate among hosts that agree in it",
        gate=shown(0x8000001F, 0, "eax", 1),
    ),
    _rule("CMP-132", "instruction-based sampling", "#GP on the MSRs of IBS", words.IBS,
          gate=shown(0x80000001, 0, "ecx", 10)),
    _rule("CMP-133", "Centaur feature", _UD, words.CENTAUR),
)  # fmt: skip
