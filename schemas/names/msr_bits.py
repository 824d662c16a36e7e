"""The bits of model-specific registers; the rows of `schemas.names.msrs` name these in their `bits`."""

from __future__ import annotations

from .bitfields import BitField, RegisterBits

_TYPES = {0: "UC", 1: "WC", 4: "WT", 5: "WP", 6: "WB", 7: "UC-"}
"""Memory types of PAT and MTRRs; UC- exists in the PAT only. Source: SDM vol. 3A table 12-10."""


def _bits(text: str) -> tuple[BitField, ...]:
    """Return one-bit fields out of "0:NAME 3:OTHER"."""
    pairs = (entry.split(":") for entry in text.split())
    return tuple(BitField(name, int(low)) for low, name in pairs)


def _row(name: str, source: str, bits: str, *fields: BitField) -> RegisterBits:
    return RegisterBits(name, 64, _bits(bits) + fields, source)


_INDEX = "Linux 6.12 arch/x86/include/asm/msr-index.h"

MSR_REGISTERS: tuple[RegisterBits, ...] = (
    _row("apic_base", "SDM vol. 3A 11.4.4; table 11-5", "8:BSP 10:EXTD 11:EN",
         BitField("BASE", 12, 40, "physical address, in pages")),
    _row("pat", "SDM vol. 3A 12.12", "", *(BitField(f"PA{n}", 8 * n, 3, "memory type", _TYPES) for n in range(8))),
    _row("xss", "SDM vol. 1 13.3",
         "8:PT 10:PASID 11:CET_USER 12:CET_KERNEL 13:HDC 14:UINTR 15:LBR 16:HWP"),
    _row("star", "APM vol. 2 6.1.1", "", BitField("EIP", 0, 32, "SYSCALL target in legacy mode"),
         BitField("SYSCALL_CS", 32, 16), BitField("SYSRET_CS", 48, 16)),
    _row("feat_ctl", f"{_INDEX}; SDM vol. 4 table 2-2",
         "0:LOCKED 1:VMX_ENABLED_INSIDE_SMX 2:VMX_ENABLED_OUTSIDE_SMX 15:SENTER_ENABLED 17:SGX_LC_ENABLED "
         "18:SGX_ENABLED 20:LMCE_ENABLED", BitField("SENTER_LOCAL", 8, 7)),
    _row("misc_enable", f"{_INDEX}; SDM vol. 4 table 2-2",
         "0:FAST_STRING 1:TCC 7:EMON 11:BTS_UNAVAIL 12:PEBS_UNAVAIL 16:ENHANCED_SPEEDSTEP 18:MWAIT 22:LIMIT_CPUID "
         "23:XTPR_DISABLE 34:XD_DISABLE 38:TURBO_DISABLE"),
    _row("spec_ctrl", _INDEX, "0:IBRS 1:STIBP 2:SSBD 3:IPRED_DIS_U 4:IPRED_DIS_S 5:RRSBA_DIS_U 6:RRSBA_DIS_S 7:PSFD "
         "8:DDPD_U 10:BHI_DIS_S"),
    _row("arch_capabilities", _INDEX,
         "0:RDCL_NO 1:IBRS_ALL 2:RSBA 3:SKIP_VMENTRY_L1DFLUSH 4:SSB_NO 5:MDS_NO 6:PSCHANGE_MC_NO 7:TSX_CTRL_MSR "
         "8:TAA_NO 9:MCU_CONTROL 10:MISC_PACKAGE_CTLS 11:ENERGY_FILTERING_CTL 12:DOITM 13:SBDR_SSDP_NO 14:FBSDP_NO "
         "15:PSDP_NO 17:FB_CLEAR 18:FB_CLEAR_CTRL 19:RRSBA 20:BHI_NO 21:XAPIC_DISABLE 23:OVERCLOCKING_STATUS "
         "24:PBRSB_NO 25:GDS_CTRL 26:GDS_NO 27:RFDS_NO 28:RFDS_CLEAR"),
    _row("core_caps", _INDEX, "2:INTEGRITY_CAPS 5:SPLIT_LOCK_DETECT"),
    _row("tsx_ctrl", _INDEX, "0:RTM_DISABLE 1:CPUID_CLEAR"),
    _row("mcu_opt_ctrl", _INDEX, "0:RNGDS_MITG_DIS 1:RTM_ALLOW 3:FB_CLEAR_DIS 4:GDS_MITG_DIS 5:GDS_MITG_LOCKED"),
    _row("platform_info", _INDEX, "28:TURBO_RATIO 29:TURBO_TDP 30:TJ_OFFSET 31:CPUID_FAULT",
         BitField("MAX_NON_TURBO_RATIO", 8, 8), BitField("MAX_EFFICIENCY_RATIO", 40, 8)),
    _row("misc_features_enables", _INDEX, "0:CPUID_FAULT 1:RING3MWAIT"),
    _row("umwait_control", _INDEX, "0:C02_DISABLE", BitField("TIME", 2, 30)),
    _row("mtrr_cap", "SDM vol. 3A 12.11.1", "8:FIX 10:WC 11:SMRR", BitField("VCNT", 0, 8)),
    _row("mtrr_def_type", "SDM vol. 3A 12.11.2.1", "10:FE 11:E", BitField("TYPE", 0, 8, "memory type", _TYPES)),
    _row("mtrr_phys_base", "SDM vol. 3A 12.11.2.3", "", BitField("TYPE", 0, 8, "memory type", _TYPES),
         BitField("BASE", 12, 40, "in pages")),
    _row("mtrr_phys_mask", "SDM vol. 3A 12.11.2.3", "11:V", BitField("MASK", 12, 40, "in pages")),
    _row("mtrr_fix", "SDM vol. 3A 12.11.2.2", "",
         *(BitField(f"T{n}", 8 * n, 8, "memory type", _TYPES) for n in range(8))),
    _row("mcg_cap", "SDM vol. 3B 16.3.1.1",
         "8:CTL_P 9:EXT_P 10:CMCI_P 11:TES_P 24:SER_P 26:ELOG_P 27:LMCE_P", BitField("BANKS", 0, 8),
         BitField("EXT_CNT", 16, 8)),
    _row("mcg_status", "SDM vol. 3B 16.3.1.2", "0:RIPV 1:EIPV 2:MCIP 3:LMCES"),
    _row("mc_status", "SDM vol. 3B 16.3.2.2",
         "55:AR 56:S 57:PCC 58:ADDRV 59:MISCV 60:EN 61:UC 62:OVER 63:VAL", BitField("MCACOD", 0, 16),
         BitField("MSCOD", 16, 16), BitField("CORRECTED", 38, 15)),
    _row("mc_ctl2", "SDM vol. 3B 16.3.2.5", "30:CMCI_EN", BitField("THRESHOLD", 0, 15)),
    _row("debugctl", _INDEX,
         "0:LBR 1:BTF 2:BUS_LOCK_DETECT 6:TR 7:BTS 8:BTINT 9:BTS_OFF_OS 10:BTS_OFF_USR 11:FREEZE_LBRS_ON_PMI "
         "12:FREEZE_PERFMON_ON_PMI 14:FREEZE_IN_SMM 15:RTM_DEBUG"),
    _row("evntsel", "SDM vol. 3B 20.2.1.1", "16:USR 17:OS 18:E 19:PC 20:INT 21:ANY 22:EN 23:INV 32:IN_TX 33:IN_TXCP",
         BitField("EVENT", 0, 8), BitField("UMASK", 8, 8), BitField("CMASK", 24, 8)),
    _row("amd_evntsel", "APM vol. 2 13.2.1", "16:USR 17:OS 18:E 20:INT 22:EN 23:INV 40:GUEST_ONLY 41:HOST_ONLY",
         BitField("EVENT", 0, 8), BitField("UMASK", 8, 8), BitField("CMASK", 24, 8), BitField("EVENT_HIGH", 32, 4)),
    _row("fixed_ctr_ctrl", "SDM vol. 3B 20.2.2", "",
         *(BitField(f"EN{n}", 4 * n, 2, "0 off, 1 OS, 2 user, 3 both") for n in range(4)),
         *(BitField(f"ANY{n}", 4 * n + 2) for n in range(4)), *(BitField(f"PMI{n}", 4 * n + 3) for n in range(4))),
    _row("perf_global", "SDM vol. 3B 20.2.2",
         "48:METRICS 55:TRACE_TOPA_PMI 58:LBR_FRZ 59:CTR_FRZ 60:ASCI 61:OVF_UNCORE 62:OVF_BUF 63:COND_CHGD",
         BitField("PMC", 0, 8, "general counters"), BitField("FIXED", 32, 4)),
    _row("perf_capabilities", f"{_INDEX}; SDM vol. 3B 20.8",
         "6:PEBS_TRAP 7:PEBS_ARCH_REG 12:FREEZE_WHILE_SMM 13:FW_WRITE 14:PEBS_BASELINE 15:METRICS 16:PT",
         BitField("LBR_FMT", 0, 6), BitField("PEBS_FORMAT", 8, 4)),
    _row("rtit_ctl", _INDEX,
         "0:TRACEEN 1:CYCLEACC 2:OS 3:USR 4:PWR_EVT_EN 5:FUP_ON_PTW 6:FABRIC_EN 7:CR3EN 8:TOPA 9:MTC_EN 10:TSC_EN "
         "11:DISRETC 12:PTW_EN 13:BRANCH_EN 31:EVENT_EN 55:NOTNT", BitField("MTC_RANGE", 14, 4),
         BitField("CYC_THRESH", 19, 4), BitField("PSB_FREQ", 24, 4), BitField("ADDR0", 32, 4), BitField("ADDR1", 36, 4),
         BitField("ADDR2", 40, 4), BitField("ADDR3", 44, 4)),
    _row("rtit_status", _INDEX, "0:FILTEREN 1:CONTEXTEN 2:TRIGGEREN 3:BUFFOVF 4:ERROR 5:STOPPED",
         BitField("BYTECNT", 32, 17)),
    _row("cet", _INDEX, "0:SHSTK_EN 1:WRSS_EN 2:ENDBR_EN 3:LEG_IW_EN 4:NO_TRACK_EN 5:SUPPRESS_DISABLE 10:SUPPRESS "
         "11:WAIT_ENDBR", BitField("LEG_BITMAP", 12, 52, "in pages")),
    _row("arch_lbr_ctl", _INDEX, "0:LBREN 1:OS 2:USR 3:STACK", BitField("FILTER", 16, 7)),
    _row("smm_monitor_ctl", "SDM vol. 3C 32.15.5", "0:VALID 2:VMXOFF_UNBLOCKS_SMI",
         BitField("MSEG_BASE", 12, 20, "in pages")),
    _row("vmx_basic", f"{_INDEX}; SDM vol. 3D A.1",
         "48:PHYS_32BIT 49:DUAL_MONITOR 54:INOUT 55:TRUE_CTLS 56:NO_HW_ERROR_CODE",
         BitField("REVISION", 0, 31), BitField("VMCS_SIZE", 32, 13), BitField("MEM_TYPE", 50, 4, "", _TYPES)),
    _row("vmx_misc", f"{_INDEX}; SDM vol. 3D A.6",
         "5:STORE_LMA 6:ACTIVITY_HLT 7:ACTIVITY_SHUTDOWN 8:ACTIVITY_WAIT_SIPI 14:INTEL_PT 15:SMBASE_READ "
         "28:BLOCK_SMI 29:VMWRITE_SHADOW_RO_FIELDS 30:ZERO_LEN_INJECT", BitField("PREEMPTION_TIMER_SCALE", 0, 5),
         BitField("CR3_TARGETS", 16, 9), BitField("MSR_LIST", 25, 3), BitField("MSEG_REVISION", 32, 32)),
    _row("vmx_ctls", "SDM vol. 3D A.2", "", BitField("ALLOWED0", 0, 32, "must be 1"),
         BitField("ALLOWED1", 32, 32, "may be 1")),
    _row("hwcr", f"{_INDEX}; APM vol. 2 3.2.10", "0:SMMLOCK 3:TLBCACHEDIS 4:INVDWBINVD 6:FFDIS 8:IGNNEEM 9:MONMWAITDIS "
         "10:MONMWAITUSEREN 18:MCSTATUSWREN 24:TSCFREQSEL 25:CPB_DIS 30:IRPERF_EN 35:CPUID_USER_DIS"),
    _row("vm_cr", "APM vol. 2 15.30.1", "0:DPD 1:R_INIT 2:DIS_A20M 3:SVM_LOCK 4:SVM_DIS"),
    _row("de_cfg", _INDEX, "1:LFENCE_SERIALIZE 9:ZEN2_FP_BACKUP_FIX"),
    _row("sev_status", _INDEX, "0:SEV 1:SEV_ES 2:SEV_SNP 3:VTOM 4:REFLECT_VC 5:RESTRICTED_INJ 6:ALT_INJ 7:DEBUG_SWAP "
         "8:PREVENT_HOST_IBS 9:BTB_ISOLATION 10:VMPL_SSS 11:SECURE_TSC 12:VMGEXIT_PARAM 14:IBS_VIRT 16:VMSA_REG_PROT "
         "17:SMT_PROT"),
    _row("syscfg", _INDEX, "18:MTRR_FIX_DRAM_EN 19:MFDM 20:MTRR_VAR_DRAM_EN 21:MTRR_TOM2_EN 22:TOM2_FORCE_WB "
         "23:MEM_ENCRYPT 24:SNP_EN 25:SNP_VMPL_EN"),
    _row("kvm_system_time", "Linux 6.12 Documentation/virt/kvm/x86/msr.rst", "0:ENABLED",
         BitField("ADDRESS", 1, 63, "physical, 4-byte aligned, shifted by 1")),
    _row("kvm_enabled", "Linux 6.12 Documentation/virt/kvm/x86/msr.rst", "0:ENABLED",
         BitField("ADDRESS", 2, 62, "physical, shifted by 2")),
    _row("kvm_steal_time", "Linux 6.12 Documentation/virt/kvm/x86/msr.rst", "0:ENABLED",
         BitField("ADDRESS", 6, 58, "physical, shifted by 6")),
    _row("kvm_async_pf_en", "Linux 6.12 arch/x86/include/uapi/asm/kvm_para.h",
         "0:ENABLED 1:SEND_ALWAYS 2:DELIVERY_AS_PF_VMEXIT 3:DELIVERY_AS_INT",
         BitField("ADDRESS", 6, 58, "physical, shifted by 6")),
    _row("kvm_poll_control", "Linux 6.12 Documentation/virt/kvm/x86/msr.rst", "0:HOST_POLLS"),
    _row("kvm_migration_control", "Linux 6.12 Documentation/virt/kvm/x86/msr.rst", "0:READY"),
    _row("hv_page", "Hyper-V TLFS 3.13, 12.6, 11.8", "0:ENABLE", BitField("PFN", 12, 52, "guest page number")),
    _row("hv_hypercall", "Hyper-V TLFS 3.13", "0:ENABLE 1:LOCKED", BitField("PFN", 12, 52, "guest page number")),
    _row("hv_sint", "Hyper-V TLFS 11.8.4", "16:MASKED 17:AUTO_EOI 18:POLLING", BitField("VECTOR", 0, 8)),
    _row("hv_stimer_config", "Hyper-V TLFS 12.3.1", "0:ENABLE 1:PERIODIC 2:LAZY 3:AUTO_ENABLE 12:DIRECT_MODE",
         BitField("APIC_VECTOR", 4, 8), BitField("SINT", 16, 4)),
    _row("hv_enable", "Hyper-V TLFS 11.8.1", "0:ENABLE"),
)  # fmt: skip
