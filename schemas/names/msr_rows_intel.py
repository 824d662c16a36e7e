"""The rows of architectural and Intel registers."""

from __future__ import annotations

from .msr_rows import MsrClass as C
from .msr_rows import MsrRow, group
from .msr_rows import RestorePhase as P

_INDEX = "Linux 6.12 arch/x86/include/asm/msr-index.h"
_PERF = "Linux 6.12 arch/x86/include/asm/perf_event.h"
_SDM = "SDM vol. 4 table 2-2"

_CORE = (
    *group(C.CONTROL, P.SREGS, f"{_INDEX}; kvm_sregs.efer", (0xC0000080, "MSR_EFER", "efer")),
    *group(C.APIC, P.SREGS, f"{_INDEX}; kvm_sregs.apic_base", (0x1B, "MSR_IA32_APICBASE", "apic_base")),
    *group(
        C.SYSCALL, P.SREGS, f"{_INDEX}; kvm_sregs.fs, gs", (0xC0000100, "MSR_FS_BASE"), (0xC0000101, "MSR_GS_BASE"),
    ),
    *group(
        C.SYSCALL, P.MSRS, _INDEX,
        (0x174, "MSR_IA32_SYSENTER_CS"), (0x175, "MSR_IA32_SYSENTER_ESP"), (0x176, "MSR_IA32_SYSENTER_EIP"),
        (0xC0000081, "MSR_STAR", "star"), (0xC0000082, "MSR_LSTAR"), (0xC0000083, "MSR_CSTAR"),
        (0xC0000084, "MSR_SYSCALL_MASK", "syscall_mask"), (0xC0000102, "MSR_KERNEL_GS_BASE"),
        (0xC0000103, "MSR_TSC_AUX"),
    ),
    *group(C.TIME, P.TIME, _INDEX, (0x10, "MSR_IA32_TSC"), (0x3B, "MSR_IA32_TSC_ADJUST")),
    *group(C.TIME, P.TSC_DEADLINE, _INDEX, (0x6E0, "MSR_IA32_TSC_DEADLINE")),
    *group(
        C.COUNTER, P.NEVER, _INDEX,
        (0xE7, "MSR_IA32_MPERF"), (0xE8, "MSR_IA32_APERF"), (0x64E, "MSR_PPERF"),
    ),
    *group(
        C.FEATURE, P.FEATURES, _INDEX,
        (0x3A, "MSR_IA32_FEAT_CTL", "feat_ctl"), (0xCE, "MSR_PLATFORM_INFO", "platform_info"),
        (0xCF, "MSR_IA32_CORE_CAPS", "core_caps"), (0x10A, "MSR_IA32_ARCH_CAPABILITIES", "arch_capabilities"),
        (0x345, "MSR_IA32_PERF_CAPABILITIES", "perf_capabilities"), (0x8B, "MSR_IA32_UCODE_REV"),
    ),
    *group(C.FEATURE, P.NEVER, _INDEX, (0x2D9, "MSR_INTEGRITY_CAPS")),
    *group(
        C.CONTROL, P.MSRS, _INDEX,
        (0x1A0, "MSR_IA32_MISC_ENABLE", "misc_enable"), (0x33, "MSR_TEST_CTRL"),
        (0x140, "MSR_MISC_FEATURES_ENABLES", "misc_features_enables"),
        (0xE1, "MSR_IA32_UMWAIT_CONTROL", "umwait_control"),
        (0x119, "MSR_IA32_BBL_CR_CTL"), (0x11E, "MSR_IA32_BBL_CR_CTL3"), (0x2A, "MSR_IA32_EBL_CR_POWERON"),
        (0x2C, "MSR_EBC_FREQUENCY_ID"),
    ),
    *group(
        C.SPECULATION, P.MSRS, _INDEX,
        (0x48, "MSR_IA32_SPEC_CTRL", "spec_ctrl"), (0x122, "MSR_IA32_TSX_CTRL", "tsx_ctrl"),
        (0x123, "MSR_IA32_MCU_OPT_CTRL", "mcu_opt_ctrl"), (0x10F, "MSR_TSX_FORCE_ABORT"),
    ),
    *group(C.SPECULATION, P.NEVER, _INDEX, (0x49, "MSR_IA32_PRED_CMD"), (0x10B, "MSR_IA32_FLUSH_CMD")),
    *group(
        C.XSTATE, P.MSRS, _INDEX,
        (0x1C4, "MSR_IA32_XFD", "xcr0"), (0x1C5, "MSR_IA32_XFD_ERR", "xcr0"), (0xDA0, "MSR_IA32_XSS", "xss"),
        (0xD90, "MSR_IA32_BNDCFGS"), (0xD93, "MSR_IA32_PASID"),
        (0x6A0, "MSR_IA32_U_CET", "cet"), (0x6A2, "MSR_IA32_S_CET", "cet"),
        (0x6A4, "MSR_IA32_PL{n}_SSP", None, 4), (0x6A8, "MSR_IA32_INT_SSP_TAB"),
    ),
    *group(C.XSTATE, P.MSRS, "SDM vol. 4 table 2-2; IA32_PKRS", (0x6E1, "MSR_IA32_PKRS")),
    *group(
        C.SYSCALL, P.MSRS, _INDEX,
        (0x1CC, "MSR_IA32_FRED_RSP{n}", None, 4), (0x1D0, "MSR_IA32_FRED_STKLVLS"), (0x1D1, "MSR_IA32_FRED_SSP1"),
        (0x1D2, "MSR_IA32_FRED_SSP2"), (0x1D3, "MSR_IA32_FRED_SSP3"), (0x1D4, "MSR_IA32_FRED_CONFIG"),
    ),
    *group(C.SMM, P.MSRS, f"{_INDEX}; Linux 6.12 arch/x86/kvm/smm.c enter_smm", (0x9E, "MSR_IA32_SMBASE")),
    *group(C.SMM, P.MSRS, _INDEX, (0x9B, "MSR_IA32_SMM_MONITOR_CTL", "smm_monitor_ctl")),
    *group(C.COUNTER, P.MSRS, f"{_INDEX}; host-writable only", (0x34, "MSR_SMI_COUNT")),
    *group(
        C.SMM, P.MSRS, _SDM, (0x1F2, "IA32_SMRR_PHYSBASE", "mtrr_phys_base"),
        (0x1F3, "IA32_SMRR_PHYSMASK", "mtrr_phys_mask"),
    ),
    *group(C.APIC, P.NEVER, _INDEX, (0xBD, "MSR_IA32_XAPIC_DISABLE_STATUS")),
)  # fmt: skip

_X2APIC = (
    *group(
        C.APIC, P.LAPIC, "SDM vol. 3A table 11-6; Linux 6.12 APIC_BASE_MSR",
        (0x802, "IA32_X2APIC_APICID"), (0x803, "IA32_X2APIC_VERSION"), (0x808, "IA32_X2APIC_TPR"),
        (0x80A, "IA32_X2APIC_PPR"), (0x80B, "IA32_X2APIC_EOI"), (0x80D, "IA32_X2APIC_LDR"),
        (0x80F, "IA32_X2APIC_SIVR", "spiv"),
        (0x810, "IA32_X2APIC_ISR{n}", None, 8), (0x818, "IA32_X2APIC_TMR{n}", None, 8),
        (0x820, "IA32_X2APIC_IRR{n}", None, 8), (0x828, "IA32_X2APIC_ESR", "esr"),
        (0x82F, "IA32_X2APIC_LVT_CMCI", "lvt"),
        (0x830, "IA32_X2APIC_ICR", "icr"), (0x832, "IA32_X2APIC_LVT_TIMER", "lvtt"),
        (0x833, "IA32_X2APIC_LVT_THERMAL", "lvt"),
        (0x834, "IA32_X2APIC_LVT_PMI", "lvt"), (0x835, "IA32_X2APIC_LVT_LINT0", "lvt"),
        (0x836, "IA32_X2APIC_LVT_LINT1", "lvt"),
        (0x837, "IA32_X2APIC_LVT_ERROR", "lvt"), (0x838, "IA32_X2APIC_INIT_COUNT"), (0x839, "IA32_X2APIC_CUR_COUNT"),
        (0x83E, "IA32_X2APIC_DIV_CONF", "tdcr"), (0x83F, "IA32_X2APIC_SELF_IPI"),
    ),
)  # fmt: skip

_MEMORY_TYPES = (
    *group(C.MTRR, P.MSRS, _INDEX, (0x277, "MSR_IA32_CR_PAT", "pat"), (0x2FF, "MSR_MTRRdefType", "mtrr_def_type")),
    *group(C.MTRR, P.NEVER, f"{_INDEX}; read-only", (0xFE, "MSR_MTRRcap", "mtrr_cap")),
    *group(
        C.MTRR, P.MSRS, _INDEX,
        (0x250, "MSR_MTRRfix64K_00000", "mtrr_fix"), (0x258, "MSR_MTRRfix16K_80000", "mtrr_fix"),
        (0x259, "MSR_MTRRfix16K_A0000", "mtrr_fix"), (0x268, "MSR_MTRRfix4K_C0000", "mtrr_fix"),
        (0x269, "MSR_MTRRfix4K_C8000", "mtrr_fix"), (0x26A, "MSR_MTRRfix4K_D0000", "mtrr_fix"),
        (0x26B, "MSR_MTRRfix4K_D8000", "mtrr_fix"), (0x26C, "MSR_MTRRfix4K_E0000", "mtrr_fix"),
        (0x26D, "MSR_MTRRfix4K_E8000", "mtrr_fix"), (0x26E, "MSR_MTRRfix4K_F0000", "mtrr_fix"),
        (0x26F, "MSR_MTRRfix4K_F8000", "mtrr_fix"),
    ),
    *group(
        C.MTRR, P.MSRS, "Linux 6.12 arch/x86/include/asm/mtrr.h MTRRphysBase_MSR; SDM vol. 3A 12.11.2.3",
        (0x200, "IA32_MTRR_PHYSBASE{n}", "mtrr_phys_base", 10, 2),
        (0x201, "IA32_MTRR_PHYSMASK{n}", "mtrr_phys_mask", 10, 2),
    ),
)  # fmt: skip

_MACHINE_CHECK = (
    *group(C.MCE, P.FEATURES, f"{_INDEX}; KVM_X86_SETUP_MCE", (0x179, "MSR_IA32_MCG_CAP", "mcg_cap")),
    *group(
        C.MCE, P.MSRS, _INDEX,
        (0x17A, "MSR_IA32_MCG_STATUS", "mcg_status"), (0x17B, "MSR_IA32_MCG_CTL"), (0x4D0, "MSR_IA32_MCG_EXT_CTL"),
        (0x17F, "MSR_ERROR_CONTROL"),
        (0x400, "MSR_IA32_MC{n}_CTL", None, 32, 4), (0x401, "MSR_IA32_MC{n}_STATUS", "mc_status", 32, 4),
        (0x402, "MSR_IA32_MC{n}_ADDR", None, 32, 4), (0x403, "MSR_IA32_MC{n}_MISC", None, 32, 4),
        (0x280, "MSR_IA32_MC{n}_CTL2", "mc_ctl2", 32),
    ),
    *group(C.MCE, P.NEVER, _INDEX, (0x0, "MSR_IA32_P5_MC_ADDR"), (0x1, "MSR_IA32_P5_MC_TYPE")),
)  # fmt: skip

_PMU = (
    *group(
        C.PMU, P.MSRS, f"{_PERF}; KVM keeps at most 8 general counters",
        (0xC1, "MSR_ARCH_PERFMON_PERFCTR{n}", None, 8), (0x186, "MSR_ARCH_PERFMON_EVENTSEL{n}", "evntsel", 8),
        (0x309, "MSR_ARCH_PERFMON_FIXED_CTR{n}", None, 4),
    ),
    *group(
        C.PMU, P.MSRS, _INDEX,
        (0x4C1, "MSR_IA32_PMC{n}", None, 8), (0x38D, "MSR_CORE_PERF_FIXED_CTR_CTRL", "fixed_ctr_ctrl"),
        (0x38E, "MSR_CORE_PERF_GLOBAL_STATUS", "perf_global"), (0x390, "MSR_CORE_PERF_GLOBAL_OVF_CTRL", "perf_global"),
        (0x3F2, "MSR_PEBS_DATA_CFG"), (0x3F6, "MSR_PEBS_LD_LAT_THRESHOLD"), (0x3F7, "MSR_PEBS_FRONTEND"),
        (0x600, "MSR_IA32_DS_AREA"), (0x329, "MSR_PERF_METRICS"), (0x1A6, "MSR_OFFCORE_RSP_{n}", None, 2),
        (0x1328, "MSR_SNOOP_RSP_{n}", None, 2),
    ),
    *group(
        C.PMU, P.ENABLE, _INDEX,
        (0x38F, "MSR_CORE_PERF_GLOBAL_CTRL", "perf_global"), (0x3F1, "MSR_IA32_PEBS_ENABLE"),
    ),
)  # fmt: skip

_DEBUG = (
    *group(
        C.DEBUG, P.MSRS, _INDEX,
        (0x1DB, "MSR_IA32_LASTBRANCHFROMIP"), (0x1DC, "MSR_IA32_LASTBRANCHTOIP"), (0x1DD, "MSR_IA32_LASTINTFROMIP"),
        (0x1DE, "MSR_IA32_LASTINTTOIP"), (0x1C8, "MSR_LBR_SELECT"), (0x1C9, "MSR_LBR_TOS"),
        (0x40, "MSR_LBR_CORE_FROM{n}", None, 8), (0x60, "MSR_LBR_CORE_TO{n}", None, 8),
        (0x680, "MSR_LBR_NHM_FROM{n}", None, 32), (0x6C0, "MSR_LBR_NHM_TO{n}", None, 32),
        (0xDC0, "MSR_LBR_INFO_{n}", None, 32), (0x14CF, "MSR_ARCH_LBR_DEPTH"),
        (0x1500, "MSR_ARCH_LBR_FROM_{n}", None, 32), (0x1600, "MSR_ARCH_LBR_TO_{n}", None, 32),
        (0x1200, "MSR_ARCH_LBR_INFO_{n}", None, 32),
    ),
    *group(
        C.DEBUG, P.ENABLE, _INDEX,
        (0x1D9, "MSR_IA32_DEBUGCTLMSR", "debugctl"), (0x14CE, "MSR_ARCH_LBR_CTL", "arch_lbr_ctl"),
    ),
    *group(
        C.TRACE, P.MSRS, _INDEX,
        (0x560, "MSR_IA32_RTIT_OUTPUT_BASE"), (0x561, "MSR_IA32_RTIT_OUTPUT_MASK"),
        (0x571, "MSR_IA32_RTIT_STATUS", "rtit_status"), (0x572, "MSR_IA32_RTIT_CR3_MATCH"),
        (0x580, "MSR_IA32_RTIT_ADDR{n}_A", None, 4, 2), (0x581, "MSR_IA32_RTIT_ADDR{n}_B", None, 4, 2),
    ),
    *group(C.TRACE, P.ENABLE, _INDEX, (0x570, "MSR_IA32_RTIT_CTL", "rtit_ctl")),
)  # fmt: skip

_VMX = (
    *group(
        C.VMX, P.FEATURES, f"{_INDEX}; SDM vol. 3D appendix A",
        (0x480, "MSR_IA32_VMX_BASIC", "vmx_basic"), (0x481, "MSR_IA32_VMX_PINBASED_CTLS", "vmx_ctls"),
        (0x482, "MSR_IA32_VMX_PROCBASED_CTLS", "vmx_ctls"), (0x483, "MSR_IA32_VMX_EXIT_CTLS", "vmx_ctls"),
        (0x484, "MSR_IA32_VMX_ENTRY_CTLS", "vmx_ctls"), (0x485, "MSR_IA32_VMX_MISC", "vmx_misc"),
        (0x486, "MSR_IA32_VMX_CR0_FIXED0", "cr0"), (0x487, "MSR_IA32_VMX_CR0_FIXED1"),
        (0x488, "MSR_IA32_VMX_CR4_FIXED0", "cr4"), (0x489, "MSR_IA32_VMX_CR4_FIXED1", "cr4"),
        (0x48A, "MSR_IA32_VMX_VMCS_ENUM"), (0x48B, "MSR_IA32_VMX_PROCBASED_CTLS2", "vmx_ctls"),
        (0x48C, "MSR_IA32_VMX_EPT_VPID_CAP"), (0x48D, "MSR_IA32_VMX_TRUE_PINBASED_CTLS", "vmx_ctls"),
        (0x48E, "MSR_IA32_VMX_TRUE_PROCBASED_CTLS", "vmx_ctls"), (0x48F, "MSR_IA32_VMX_TRUE_EXIT_CTLS", "vmx_ctls"),
        (0x490, "MSR_IA32_VMX_TRUE_ENTRY_CTLS", "vmx_ctls"), (0x491, "MSR_IA32_VMX_VMFUNC"),
        (0x492, "MSR_IA32_VMX_PROCBASED_CTLS3"),
    ),
)  # fmt: skip

_PLATFORM = (
    *group(
        C.POWER, P.MSRS, _INDEX,
        (0x1FC, "MSR_IA32_POWER_CTL"), (0x199, "MSR_IA32_PERF_CTL"), (0x19A, "MSR_IA32_THERM_CONTROL"),
        (0x19B, "MSR_IA32_THERM_INTERRUPT"), (0x19D, "MSR_THERM2_CTL"), (0x1B0, "MSR_IA32_ENERGY_PERF_BIAS"),
        (0x1B2, "MSR_IA32_PACKAGE_THERM_INTERRUPT"), (0xE2, "MSR_PKG_CST_CONFIG_CONTROL"), (0x1AA, "MSR_MISC_PWR_MGMT"),
        (0x1A4, "MSR_MISC_FEATURE_CONTROL"), (0x610, "MSR_PKG_POWER_LIMIT"), (0x770, "MSR_PM_ENABLE"),
        (0x772, "MSR_HWP_REQUEST_PKG"), (0x773, "MSR_HWP_INTERRUPT"), (0x774, "MSR_HWP_REQUEST"),
        (0x17D0, "MSR_IA32_HW_FEEDBACK_PTR"), (0x17D1, "MSR_IA32_HW_FEEDBACK_CONFIG"),
    ),
    *group(
        C.POWER, P.NEVER, _INDEX,
        (0x198, "MSR_IA32_PERF_STATUS"), (0x19C, "MSR_IA32_THERM_STATUS"), (0x1A2, "MSR_IA32_TEMPERATURE_TARGET"),
        (0x1AD, "MSR_TURBO_RATIO_LIMIT"), (0x1AE, "MSR_TURBO_RATIO_LIMIT1"), (0x1AF, "MSR_TURBO_RATIO_LIMIT2"),
        (0x1B1, "MSR_IA32_PACKAGE_THERM_STATUS"), (0x606, "MSR_RAPL_POWER_UNIT"), (0x611, "MSR_PKG_ENERGY_STATUS"),
        (0x613, "MSR_PKG_PERF_STATUS"), (0x614, "MSR_PKG_POWER_INFO"), (0x619, "MSR_DRAM_ENERGY_STATUS"),
        (0x639, "MSR_PP0_ENERGY_STATUS"), (0x641, "MSR_PP1_ENERGY_STATUS"), (0x771, "MSR_HWP_CAPABILITIES"),
        (0x777, "MSR_HWP_STATUS"), (0xCD, "MSR_FSB_FREQ"),
    ),
    *group(
        C.COUNTER, P.NEVER, f"{_INDEX}; C-state residency",
        (0x3F8, "MSR_PKG_C3_RESIDENCY"), (0x3F9, "MSR_PKG_C6_RESIDENCY"), (0x3FA, "MSR_PKG_C7_RESIDENCY"),
        (0x3FC, "MSR_CORE_C3_RESIDENCY"), (0x3FD, "MSR_CORE_C6_RESIDENCY"), (0x3FE, "MSR_CORE_C7_RESIDENCY"),
        (0x60D, "MSR_PKG_C2_RESIDENCY"),
    ),
    *group(
        C.PLATFORM, P.NEVER, _INDEX,
        (0x17, "MSR_IA32_PLATFORM_ID"), (0x79, "MSR_IA32_UCODE_WRITE"), (0x4E, "MSR_PPIN_CTL"), (0x4F, "MSR_PPIN"),
        (0x87, "MSR_IA32_MKTME_KEYID_PARTITIONING"),
    ),
    *group(C.SGX, P.MSRS, _INDEX, (0x8C, "MSR_IA32_SGXLEPUBKEYHASH{n}", None, 4)),
    *group(
        C.RESCTRL, P.MSRS, _INDEX,
        (0xC81, "MSR_IA32_L3_QOS_CFG"), (0xC82, "MSR_IA32_L2_QOS_CFG"), (0xC8D, "MSR_IA32_QM_EVTSEL"),
        (0xC8E, "MSR_IA32_QM_CTR"), (0xC8F, "MSR_IA32_PQR_ASSOC"),
    ),
)  # fmt: skip

INTEL_MSRS: tuple[MsrRow, ...] = (
    *_CORE, *_X2APIC, *_MEMORY_TYPES, *_MACHINE_CHECK, *_PMU, *_DEBUG, *_VMX, *_PLATFORM,
)  # fmt: skip
