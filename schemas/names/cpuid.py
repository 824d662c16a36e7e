"""What CPUID bits and leaves are called: the names of /proc/cpuinfo, and the manuals' where it has none.

`FEATURE_WORDS` is the table of registers in which every bit is a feature; to name a bit, add it to its word.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Literal, NamedTuple

Register = Literal["eax", "ebx", "ecx", "edx"]


class FeatureWord(NamedTuple):
    """One register of one leaf, `names` by bit.

    `ignored`: bits that mirror guest state or name the hypervisor, not the processor. `subleaf` is 0 where the leaf has
    no subleaves.
    """

    function: int
    subleaf: int
    register: Register
    names: dict[int, str]
    ignored: int = 0

    @property
    def place(self) -> str:
        """Return "CPUID 0x7.0 EBX"."""
        return f"CPUID {self.function:#x}.{self.subleaf} {self.register.upper()}"

    def features(self, value: int) -> Iterator[str]:
        """Yield the name of each bit set, "bit 10" for one that has none."""
        for bit in range(32):
            if value >> bit & 1:
                yield self.names.get(bit) or f"bit {bit}"


def _word(function: int, subleaf: int, register: Register, names: str, ignored: int = 0) -> FeatureWord:
    """Return a word out of "0:fpu 1:vme"."""
    pairs = (entry.split(":") for entry in names.split())
    return FeatureWord(function, subleaf, register, {int(bit): name for bit, name in pairs}, ignored)


_HIDDEN = 1 << 27 | 1 << 31
"""OSXSAVE mirrors CR4.OSXSAVE; "hypervisor" says that there is one."""

FEATURE_WORDS: tuple[FeatureWord, ...] = (
    _word(
        1, 0, "ecx",
        "0:sse3 1:pclmulqdq 2:dtes64 3:monitor 4:ds_cpl 5:vmx 6:smx 7:est 8:tm2 9:ssse3 10:cid 11:sdbg 12:fma 13:cx16 "
        "14:xtpr 15:pdcm 17:pcid 18:dca 19:sse4_1 20:sse4_2 21:x2apic 22:movbe 23:popcnt 24:tsc_deadline_timer 25:aes "
        "26:xsave 27:osxsave 28:avx 29:f16c 30:rdrand 31:hypervisor",
        _HIDDEN,
    ),
    # APIC (9) mirrors IA32_APIC_BASE.
    _word(
        1, 0, "edx",
        "0:fpu 1:vme 2:de 3:pse 4:tsc 5:msr 6:pae 7:mce 8:cx8 9:apic 11:sep 12:mtrr 13:pge 14:mca 15:cmov 16:pat "
        "17:pse36 18:pn 19:clflush 21:dts 22:acpi 23:mmx 24:fxsr 25:sse 26:sse2 27:ss 28:ht 29:tm 30:ia64 31:pbe",
        1 << 9,
    ),
    _word(6, 0, "eax",
    "0:dtherm 1:ida 2:arat 4:pln 6:pts 7:hwp 8:hwp_notify 9:hwp_act_window 10:hwp_epp 11:hwp_pkg_req "
          "19:hfi 23:thread_director"),
    _word(6, 0, "ecx", "0:aperfmperf 3:epb"),
    _word(
        7, 0, "ebx",
        "0:fsgsbase 1:tsc_adjust 2:sgx 3:bmi1 4:hle 5:avx2 6:fdp_excptn_only 7:smep 8:bmi2 9:erms 10:invpcid 11:rtm "
        "12:cqm 13:zero_fcs_fds 14:mpx 15:rdt_a 16:avx512f 17:avx512dq 18:rdseed 19:adx 20:smap 21:avx512ifma "
        "23:clflushopt 24:clwb 25:intel_pt 26:avx512pf 27:avx512er 28:avx512cd 29:sha_ni 30:avx512bw 31:avx512vl",
    ),
    # OSPKE (4) mirrors CR4.
    _word(
        7, 0, "ecx",
        "0:prefetchwt1 1:avx512vbmi 2:umip 3:pku 4:ospke 5:waitpkg 6:avx512_vbmi2 7:shstk 8:gfni 9:vaes 10:vpclmulqdq "
        "11:avx512_vnni 12:avx512_bitalg 13:tme 14:avx512_vpopcntdq 16:la57 22:rdpid 23:kl 24:bus_lock_detect "
        "25:cldemote 27:movdiri 28:movdir64b 29:enqcmd 30:sgx_lc 31:pks",
        1 << 4,
    ),
    _word(
        7, 0, "edx",
        "1:sgx_keys 2:avx512_4vnniw 3:avx512_4fmaps 4:fsrm 5:uintr 8:avx512_vp2intersect 9:srbds_ctrl 10:md_clear "
        "11:rtm_always_abort 13:tsx_force_abort 14:serialize 15:hybrid_cpu 16:tsxldtrk 18:pconfig 19:arch_lbr 20:ibt "
        "22:amx_bf16 23:avx512_fp16 24:amx_tile 25:amx_int8 26:spec_ctrl 27:intel_stibp 28:flush_l1d "
        "29:arch_capabilities 30:core_capabilities 31:spec_ctrl_ssbd",
    ),
    _word(
        7, 1, "eax",
        "0:sha512 1:sm3 2:sm4 3:rao_int 4:avx_vnni 5:avx512_bf16 6:lass 7:cmpccxadd 8:arch_perfmon_ext 10:fzrm 11:fsrs "
        "12:fsrc 17:fred 18:lkgs 19:wrmsrns 20:nmi_src 21:amx_fp16 22:hreset 23:avx_ifma 26:lam 27:msrlist "
        "30:invd_disable_post_bios 31:movrs",
    ),
    _word(7, 1, "ebx", "0:intel_ppin 1:pbndkb"),
    _word(7, 1, "edx", "4:avx_vnni_int8 5:avx_ne_convert 8:amx_complex 10:avx_vnni_int16 13:utmr 14:prefetchiti "
          "15:user_msr 17:uiret_uif 18:cet_sss 19:avx10 21:apx_f"),
    _word(7, 2, "edx", "0:intel_psfd 1:ipred_ctrl 2:rrsba_ctrl 3:ddpd_u 4:bhi_ctrl 5:mcdt_no 6:uc_lock_disable"),
    _word(0xD, 1, "eax", "0:xsaveopt 1:xsavec 2:xgetbv1 3:xsaves 4:xfd"),
    _word(0x14, 0, "ebx",
    "0:pt_cr3_filter 1:pt_psb_cyc 2:pt_ip_filter 3:pt_mtc 4:pt_ptwrite 5:pt_power_event 6:pt_psb_pmi "
          "7:pt_event_trace 8:pt_tnt_disable"),
    _word(0x14, 0, "ecx", "0:pt_topa 1:pt_topa_multi 2:pt_single_range 3:pt_trace_transport 31:pt_lip"),
    _word(0x1E, 1, "eax", "0:amx_int8 1:amx_bf16 2:amx_complex 3:amx_fp16 4:amx_fp8 5:amx_transpose 6:amx_tf32 "
          "7:amx_avx512 8:amx_movrs"),
    _word(0x24, 0, "ebx", "16:avx10_128 17:avx10_256 18:avx10_512"),
    _word(
        0x40000001, 0, "eax",
        "0:kvm_clocksource 1:kvm_nop_io_delay 2:kvm_mmu_op 3:kvm_clocksource2 4:kvm_async_pf 5:kvm_steal_time "
        "6:kvm_pv_eoi 7:kvm_pv_unhalt 9:kvm_pv_tlb_flush 10:kvm_async_pf_vmexit 11:kvm_pv_send_ipi 12:kvm_poll_control "
        "13:kvm_pv_sched_yield 14:kvm_async_pf_int 15:kvm_msi_ext_dest_id 16:kvm_hc_map_gpa_range "
        "17:kvm_migration_control 24:kvm_clocksource_stable",
    ),
    _word(0x40000001, 0, "edx", "0:kvm_hints_realtime"),
    _word(
        0x80000001, 0, "ecx",
        "0:lahf_lm 1:cmp_legacy 2:svm 3:extapic 4:cr8_legacy 5:abm 6:sse4a 7:misalignsse 8:3dnowprefetch 9:osvw 10:ibs "
        "11:xop 12:skinit 13:wdt 15:lwp 16:fma4 17:tce 19:nodeid_msr 21:tbm 22:topoext 23:perfctr_core 24:perfctr_nb "
        "26:bpext 27:ptsc 28:perfctr_llc 29:mwaitx 30:addr_mask_ext",
    ),
    # Bits 0-9, 12-17, 23, 24 repeat leaf 1 on AMD; APIC (9) mirrors IA32_APIC_BASE there too.
    _word(
        0x80000001, 0, "edx",
        "0:fpu 1:vme 2:de 3:pse 4:tsc 5:msr 6:pae 7:mce 8:cx8 9:apic 11:syscall 12:mtrr 13:pge 14:mca 15:cmov 16:pat "
        "17:pse36 19:mp 20:nx 22:mmxext 23:mmx 24:fxsr 25:fxsr_opt 26:pdpe1gb 27:rdtscp 29:lm 30:3dnowext 31:3dnow",
        1 << 9,
    ),
    _word(0x80000007, 0, "ebx", "0:overflow_recov 1:succor 3:smca"),
    _word(0x80000007, 0, "edx",
    "0:ts 1:fid 2:vid 3:ttp 4:htc 6:100mhz_steps 7:hw_pstate 8:invariant_tsc 9:cpb 10:eff_freq_ro "
          "11:proc_feedback 12:acc_power"),
    _word(
        0x80000008, 0, "ebx",
        "0:clzero 1:irperf 2:xsaveerptr 3:invlpgb 4:rdpru 6:mba 8:mcommit 9:wbnoinvd 12:amd_ibpb 13:int_wbinvd "
        "14:amd_ibrs 15:amd_stibp 16:ibrs_always_on 17:amd_stibp_always_on 18:ibrs_preferred 19:ibrs_same_mode "
        "20:no_efer_lmsle 21:tlb_flush_nested 23:amd_ppin 24:amd_ssbd 25:virt_ssbd 26:amd_ssb_no 27:cppc 28:amd_psfd "
        "29:btc_no 30:ibpb_ret 31:brs",
    ),
    _word(
        0x8000000A, 0, "edx",
        "0:npt 1:lbrv 2:svm_lock 3:nrip_save 4:tsc_scale 5:vmcb_clean 6:flushbyasid 7:decodeassists 10:pausefilter "
        "12:pfthreshold 13:avic 15:v_vmsave_vmload 16:vgif 17:gmet 18:x2avic 19:sss_check 20:v_spec_ctrl 21:rogpt "
        "23:host_mce_override 24:tlbi_ctl 25:vnmi 26:ibs_virt 28:svme_addr_chk 29:bus_lock_threshold 30:idle_hlt",
    ),
    _word(
        0x8000001F, 0, "eax",
        "0:sme 1:sev 2:vm_page_flush 3:sev_es 4:sev_snp 5:vmpl 6:rmpquery 7:vmpl_sss 8:secure_tsc 9:v_tsc_aux "
        "10:sme_coherent 11:req_64bit_hypervisor 12:restricted_injection 13:alternate_injection 14:debug_swap "
        "15:prevent_host_ibs 16:vte 17:vmgexit_param 18:virtual_tom 19:ibs_guest_virt 24:vmsa_reg_prot 25:smt_prot "
        "28:svsm_page_msr 29:nested_virt_snp_msr",
    ),
    _word(
        0x80000021, 0, "eax",
        "0:no_nested_data_bp 1:wrmsr_xx_base_ns 2:lfence_rdtsc 3:smm_pgcfg_lock 6:null_sel_clr_base "
        "7:upper_address_ignore 8:autoibrs 9:no_smm_ctl_msr 10:amd_fsrs 11:amd_fsrc 13:prefetch_ctl_msr "
        "17:cpuid_user_dis 18:epsf 20:prefetchi 27:sbpb 28:ibpb_brtype 29:srso_no 30:srso_user_kernel_no "
        "31:srso_bp_spec_reduce",
    ),
    _word(0x80000022, 0, "eax", "0:perfmon_v2 1:amd_lbr_v2 2:amd_lbr_pmc_freeze"),
)  # fmt: skip
"""Source: Linux 6.12 arch/x86/include/asm/cpufeatures.h, uapi/asm/kvm_para.h; SDM vol. 2A CPUID; APM vol. 3 E."""

LEAVES: dict[int, str] = {
    0: "largest leaf, vendor",
    1: "model, features",
    2: "caches and TLBs",
    4: "caches",
    5: "MONITOR/MWAIT",
    6: "thermal and power",
    7: "features",
    0xA: "performance monitoring",
    0xB: "topology",
    0xD: "XSAVE components",
    0xF: "resource monitoring",
    0x10: "resource allocation",
    0x12: "SGX",
    0x14: "processor trace",
    0x15: "TSC and crystal clock",
    0x16: "frequencies",
    0x18: "address translation",
    0x19: "key locker",
    0x1D: "AMX tiles",
    0x1E: "AMX multiplier",
    0x1F: "topology, version 2",
    0x24: "AVX10",
    0x40000000: "hypervisor: largest leaf, signature",
    0x40000001: "hypervisor: KVM features, or Hyper-V interface",
    0x40000002: "hypervisor: Hyper-V version",
    0x40000003: "hypervisor: Hyper-V features",
    0x40000004: "hypervisor: Hyper-V hints",
    0x40000005: "hypervisor: Hyper-V limits",
    0x40000006: "hypervisor: Hyper-V hardware features",
    0x4000000A: "hypervisor: Hyper-V nested features",
    0x40000010: "hypervisor: TSC and bus frequency",
    0x80000000: "largest extended leaf",
    0x80000001: "extended features",
    0x80000002: "brand string",
    0x80000003: "brand string",
    0x80000004: "brand string",
    0x80000005: "L1 cache and TLB",
    0x80000006: "L2 and L3 cache",
    0x80000007: "power, invariant TSC",
    0x80000008: "address widths, features",
    0x8000000A: "SVM",
    0x80000019: "TLB of 1 GiB pages",
    0x8000001A: "performance hints",
    0x8000001B: "instruction-based sampling",
    0x8000001D: "caches",
    0x8000001E: "topology",
    0x8000001F: "memory encryption",
    0x80000021: "extended features 2",
    0x80000022: "performance monitoring",
    0x80000026: "topology",
}
"""What a leaf is about. Source: SDM vol. 2A CPUID; APM vol. 3 E.3, E.4; Documentation/virt/kvm/x86/cpuid.rst."""

VENDORS: dict[str, str] = {
    "GenuineIntel": "Intel",
    "AuthenticAMD": "AMD",
    "HygonGenuine": "Hygon",
    "CentaurHauls": "Centaur",
    "  Shanghai  ": "Zhaoxin",
}
"""Vendor string of leaf 0 -> name."""


@cache
def _words() -> dict[tuple[int, int, str], FeatureWord]:
    return {(word.function, word.subleaf, word.register): word for word in FEATURE_WORDS}


def feature_word(function: int, subleaf: int, register: str) -> FeatureWord | None:
    """Return the word that names the bits of this register, or None if they are not features."""
    return _words().get((function, subleaf, register))


def feature_place(name: str) -> tuple[FeatureWord, int] | None:
    """Return word and bit of a feature ("avx2"), or None; where several repeat it, the first of the table."""
    wanted = name.lower()
    for word in FEATURE_WORDS:
        for bit, known in word.names.items():
            if known == wanted:
                return word, bit
    return None
