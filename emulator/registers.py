"""Register numbers and bit names, as the manuals and the instruction encodings have them."""

RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI = range(8)
R8, R9, R10, R11, R12, R13, R14, R15 = range(8, 16)
GPR_NAMES = ("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", *(f"r{n}" for n in range(8, 16)))
"""Names by hardware encoding. Source: SDM vol. 2A table 2-2 and 3.1.1.1."""

ES, CS, SS, DS, FS, GS = range(6)
SEGMENT_NAMES = ("es", "cs", "ss", "ds", "fs", "gs")
"""Names by hardware encoding (the reg field of MOV Sreg)."""

# RFLAGS. Source: SDM vol. 1 3.4.3.
FLAG_CF = 1 << 0
FLAG_FIXED = 1 << 1
FLAG_PF = 1 << 2
FLAG_AF = 1 << 4
FLAG_ZF = 1 << 6
FLAG_SF = 1 << 7
FLAG_TF = 1 << 8
FLAG_IF = 1 << 9
FLAG_DF = 1 << 10
FLAG_OF = 1 << 11
FLAG_IOPL = 3 << 12
FLAG_NT = 1 << 14
FLAG_RF = 1 << 16
FLAG_VM = 1 << 17
FLAG_AC = 1 << 18
FLAG_VIF = 1 << 19
FLAG_VIP = 1 << 20
FLAG_ID = 1 << 21
FLAGS_STATUS = FLAG_CF | FLAG_PF | FLAG_AF | FLAG_ZF | FLAG_SF | FLAG_OF
FLAGS_DEFINED = 0x3F7FD5
"""Every flag a program can hold; bit 1 reads as one, the others as zero."""

# Control registers. Source: SDM vol. 3A 2.5.
CR0_PE = 1 << 0
CR0_MP = 1 << 1
CR0_EM = 1 << 2
CR0_TS = 1 << 3
CR0_ET = 1 << 4
CR0_NE = 1 << 5
CR0_WP = 1 << 16
CR0_AM = 1 << 18
CR0_NW = 1 << 29
CR0_CD = 1 << 30
CR0_PG = 1 << 31
CR0_DEFINED = 0xE005003F

CR4_VME = 1 << 0
CR4_PVI = 1 << 1
CR4_TSD = 1 << 2
CR4_DE = 1 << 3
CR4_PSE = 1 << 4
CR4_PAE = 1 << 5
CR4_MCE = 1 << 6
CR4_PGE = 1 << 7
CR4_PCE = 1 << 8
CR4_UMIP = 1 << 11
CR4_OSXSAVE = 1 << 18
CR4_SMEP = 1 << 20
CR4_SMAP = 1 << 21

EFER_SCE = 1 << 0
EFER_LME = 1 << 8
EFER_LMA = 1 << 10
EFER_NXE = 1 << 11

# Debug registers. Source: SDM vol. 3B 18.2; Linux 6.12 arch/x86/include/asm/kvm_host.h.
DR6_RESET = 0xFFFF0FF0
DR6_BD = 1 << 13
DR6_BS = 1 << 14
DR6_BT = 1 << 15
DR6_VOLATILE = 0x0001E80F
DR7_RESET = 0x400
DR7_LOCAL = 0x155
"""L0 to L3 and LE, which a task switch clears."""
DR7_GD = 1 << 13
DR7_VOLATILE = 0xFFFF2BFF

# Model-specific registers. Source: SDM vol. 4 table 2-2, APM vol. 2 appendix A.
MSR_TSC = 0x10
MSR_APIC_BASE = 0x1B
MSR_SMBASE = 0x9E
MSR_TSC_DEADLINE = 0x6E0
MSR_SYSENTER_CS = 0x174
MSR_SYSENTER_ESP = 0x175
MSR_SYSENTER_EIP = 0x176
MSR_EFER = 0xC0000080
MSR_STAR = 0xC0000081
MSR_LSTAR = 0xC0000082
MSR_CSTAR = 0xC0000083
MSR_SFMASK = 0xC0000084
MSR_FS_BASE = 0xC0000100
MSR_GS_BASE = 0xC0000101
MSR_KERNEL_GS_BASE = 0xC0000102
MSR_TSC_AUX = 0xC0000103

# Interrupt shadow bits: KVM_X86_SHADOW_INT_*. Source: Linux 6.12 arch/x86/include/uapi/asm/kvm.h.
SHADOW_MOV_SS = 1
SHADOW_STI = 2

# kvm_mp_state.mp_state. Source: Linux 6.12 include/uapi/linux/kvm.h.
MP_RUNNABLE = 0
MP_UNINITIALIZED = 1
MP_INIT_RECEIVED = 2
MP_HALTED = 3

MASK16 = 0xFFFF
MASK32 = 0xFFFFFFFF
MASK64 = 0xFFFFFFFFFFFFFFFF
