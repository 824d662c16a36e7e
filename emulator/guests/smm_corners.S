# SMM corner cases, short enough to be migrated at every single instruction boundary: SMIs in every kind of
# interrupt shadow, latched second SMIs, NMIs and exceptions inside SMM, IRET in the handler, SMBASE relocation, and
# RSM back to real mode, to the middle of mode switches, to 32-bit protected mode and to long mode (where the CPU
# has it). Loaded at 0x8000, entered in real mode at 0000:8000. What happens is logged byte by byte at LOG.
#
# Exit code at port 0xF4: the number of interrupts that came before the instruction in the shadow; 0 is good.
# ebx belongs to the interrupt handlers.

.intel_syntax noprefix
.include "smm_corners.inc"

.set IDT32,   0x14000
.set IDT64,   0x15000
.set PML4,    0x10000
.set COM1,    0x3F8

# An SMI `ns` after the start of the OUT; a step takes 1000 ns. The handler finds \what, the self-interrupt \label.
.macro prepare what, label, ns
	cli
	mov	word ptr [COMMAND], \what
	mov	dword ptr [EXPECTED], offset \label
	mov	eax, \ns
	out	0xB8, eax
.endm

.macro sti_shadow what
	prepare	(\what), 9f, 2000
	sti
	inc	dword ptr [DONE]
9:
.endm

.macro sti_hlt what
	prepare	(\what), 9f, 2000
	sti
	hlt
9:
.endm

.macro mov_ss_shadow what
	mov	ecx, ss
	prepare	(\what), 9f, 3000
	sti
	mov	ss, ecx
	inc	dword ptr [DONE]
9:
.endm

.macro pop_ss_shadow what
	push	ss
	prepare	(\what), 9f, 3000
	sti
	pop	ss
	inc	dword ptr [DONE]
9:
.endm

# The handler clears the byte: the interrupt must come before the instruction that was in the shadow.
.macro cleared_shadow
	prepare	(DO_INTERRUPT | DO_CLEAR), 9f, 2000
	sti
9:	inc	dword ptr [DONE]
.endm

.macro no_shadow what
	prepare	(\what), 9f, 3000
	sti
	inc	dword ptr [DONE]
9:
.endm

# The SMI finds a fault that has not been delivered yet.
.macro at_a_fault
	prepare	0, 9f, 2000
	ud2
	sti
9:
.endm

# A software interrupt is the instruction in the shadow.
.macro soft_interrupt_in_shadow
	mov	ecx, ss
	prepare	0, 9f, 2000
	mov	ss, ecx
	int	VECTOR_SOFT
9:
.endm

# An SMI in the middle of a repeated string instruction.
.macro amid_a_string what
	mov	esi, 0x8000
	mov	edi, 0x900
	mov	ecx, 6
	cld
	prepare	\what, 9f, 4000
	rep	movsb
	sti
	nop
9:
.endm

.macro log tag
	mov	ebx, [LOG_POINTER]
	mov	byte ptr [ebx], \tag
	inc	dword ptr [LOG_POINTER]
.endm

.code16
.globl _start
_start:
	cli
	xor	eax, eax
	mov	ds, ax
	mov	es, ax
	mov	ss, ax
	mov	sp, 0x7000
	mov	word ptr [4 * 2], offset nmi16
	mov	word ptr [4 * 6], offset ud16
	mov	word ptr [4 * VECTOR_SELF], offset self16
	mov	word ptr [4 * VECTOR_SOFT], offset soft16
	mov	word ptr [LOG_POINTER], LOG
	# Through protected mode and back: FS keeps its 4 GiB limit, which RSM must keep too.
	lgdt	[gdt_pointer]
	mov	eax, cr0
	or	al, 1
	mov	cr0, eax
	mov	cx, 0x10
	mov	fs, cx
	and	al, 0xFE
	mov	cr0, eax
	ljmp	0x00, offset 1f
1:	mov	eax, LAPIC + 0xF0
	mov	dword ptr fs:[eax], 0x1FF

	mov	al, 0
	out	0xB2, al
	no_shadow	DO_INTERRUPT
	sti_shadow	DO_INTERRUPT
	mov_ss_shadow	DO_INTERRUPT
	pop_ss_shadow	DO_INTERRUPT
	sti_hlt		DO_INTERRUPT
	sti_shadow	DO_INTERRUPT | DO_SECOND
	mov_ss_shadow	DO_INTERRUPT | DO_NMI
	cleared_shadow
	mov	word ptr [NMI_COMMAND], DO_NMI
	no_shadow	DO_NMI
	soft_interrupt_in_shadow
	at_a_fault
	amid_a_string	DO_INTERRUPT
	prepare	(DO_INTERRUPT | DO_NMI | DO_NEST), 0, 2000
	sti
	nop
	sti_shadow	DO_INTERRUPT | DO_RELOCATE
	sti_shadow	DO_INTERRUPT

	# An SMI between setting PE and the far jump: RSM must bring back a real-mode CS with PE set.
	cli
	mov	ecx, cr0
	or	cl, 1
	mov	eax, 2000
	out	0xB8, eax
	mov	cr0, ecx
	ljmp	0x08, offset protected

self16:
	log	TAG_SELF
	mov	bx, sp
	mov	bx, ss:[bx]
	cmp	word ptr [EXPECTED], 0
	je	1f
	cmp	bx, [EXPECTED]
	je	1f
	inc	dword ptr [LOST]
1:	mov	ebx, LAPIC + 0xB0
	mov	dword ptr fs:[ebx], 0
	iret
nmi16:
	log	TAG_NMI
	xor	bx, bx
	xchg	bx, [NMI_COMMAND]
	test	bx, bx
	jz	1f
	mov	[COMMAND], bx
	out	0xB2, al
	log	TAG_NMI_ENDS         # before the second NMI: RSM must leave NMIs blocked
1:	iret
ud16:
	log	TAG_UD
	mov	bx, sp
	add	word ptr ss:[bx], 2
	iret
soft16:
	log	TAG_SOFT
	iret

.code32
protected:
	mov	eax, 0x10
	mov	ds, eax
	mov	es, eax
	mov	ss, eax
	mov	esp, 0x7000
	lidt	[idt32_pointer]
	mov	ecx, 8
	mov	edi, IDT32
	mov	edx, 0x08 << 16
	mov	esi, offset handlers32
	call	write_gates

	sti_shadow	DO_INTERRUPT
	mov_ss_shadow	DO_INTERRUPT | DO_NMI
	pop_ss_shadow	DO_INTERRUPT | DO_SECOND
	sti_hlt		DO_INTERRUPT
	at_a_fault
	cli

	mov	eax, 0x80000000
	cpuid
	cmp	eax, 0x80000001
	jb	report
	mov	eax, 0x80000001
	cpuid
	test	edx, 1 << 29
	jz	report

	# Identity: the first 2 MiB and the local APIC's 2 MiB.
	mov	dword ptr [PML4], PML4 + 0x1003
	mov	dword ptr [PML4 + 0x1000], PML4 + 0x2003
	mov	dword ptr [PML4 + 0x1018], PML4 + 0x3003
	mov	dword ptr [PML4 + 0x2000], 0x83
	mov	dword ptr [PML4 + 0x3000 + 8 * 0x1F7], LAPIC | 0x83
	mov	eax, 0x20            # CR4.PAE
	mov	cr4, eax
	mov	eax, PML4
	mov	cr3, eax
	mov	ecx, 0xC0000080      # EFER.LME
	rdmsr
	or	ah, 1
	wrmsr
	mov	ecx, 16
	mov	edi, IDT64
	mov	edx, 0x18 << 16
	mov	esi, offset handlers64
	call	write_gates
	mov	ecx, cr0
	or	ecx, 0x80000000
	mov	eax, 2000            # an SMI in compatibility mode, before the far jump to 64-bit code
	out	0xB8, eax
	mov	cr0, ecx
	ljmp	0x18, offset long64

# Gates for the handlers listed at esi: ecx bytes a gate, edi table, edx selector << 16.
write_gates:
1:	movzx	eax, byte ptr [esi]
	test	eax, eax
	jz	2f
	imul	eax, ecx
	movzx	ebp, word ptr [esi + 1]
	or	ebp, edx
	mov	[edi + eax], ebp
	mov	dword ptr [edi + eax + 4], 0x8E00
	add	esi, 3
	jmp	1b
2:	ret

self32:
	log	TAG_SELF
	mov	ebx, [esp]
	cmp	dword ptr [EXPECTED], 0
	je	1f
	cmp	ebx, [EXPECTED]
	je	1f
	inc	dword ptr [LOST]
1:	mov	dword ptr [LAPIC + 0xB0], 0
	iretd
nmi32:
	log	TAG_NMI
	iretd
ud32:
	log	TAG_UD
	add	dword ptr [esp], 2
	iretd
soft32:
	log	TAG_SOFT
	iretd

# "smm corners, log LL lost NN", hexadecimal; then the exit code.
report:
	mov	esi, offset text
	mov	edx, COM1
1:	lodsb
	test	al, al
	jz	2f
	out	dx, al
	jmp	1b
2:	mov	eax, [LOG_POINTER]
	sub	eax, LOG
	call	print_byte
	mov	eax, [LOST]
	call	print_byte
	mov	al, 10
	out	dx, al
	mov	eax, [LOST]
	out	0xF4, al
	hlt

print_byte:
	mov	ah, al
	shr	al, 4
	call	1f
	mov	al, ah
	and	al, 15
1:	cmp	al, 10
	jb	2f
	add	al, 'a' - '0' - 10
2:	add	al, '0'
	out	dx, al
	ret

.code64
long64:
	lidt	[idt64_pointer]
	mov	rsp, 0x7000
	mov	rax, 0x123456789ABCDEF0  # all 64 bits of a register must survive SMM
	mov	r15, rax
	mov	r8, rax
	not	r8
	sti_shadow	DO_INTERRUPT
	mov_ss_shadow	DO_INTERRUPT | DO_NMI
	sti_hlt		DO_INTERRUPT | DO_SECOND
	at_a_fault
	soft_interrupt_in_shadow
	amid_a_string	DO_INTERRUPT
	prepare	(DO_INTERRUPT | DO_NMI | DO_NEST), 0, 2000
	sti
	nop
	cli
	mov	rax, 0x123456789ABCDEF0
	cmp	rax, r15
	je	1f
	inc	dword ptr [LOST]
1:	not	r8
	cmp	rax, r8
	je	2f
	inc	dword ptr [LOST]
2:	jmp	fword ptr [to_report]

self64:
	log	TAG_SELF
	mov	ebx, [rsp]
	cmp	dword ptr [EXPECTED], 0
	je	1f
	cmp	ebx, [EXPECTED]
	je	1f
	inc	dword ptr [LOST]
1:	mov	ebx, LAPIC + 0xB0
	mov	dword ptr [rbx], 0
	iretq
nmi64:
	log	TAG_NMI
	iretq
ud64:
	log	TAG_UD
	add	qword ptr [rsp], 2
	iretq
soft64:
	log	TAG_SOFT
	iretq

# ---- tables ----
.macro handler vector, label
	.byte	\vector
	.word	\label
.endm

handlers32:
	handler	2, nmi32
	handler	6, ud32
	handler	VECTOR_SELF, self32
	handler	VECTOR_SOFT, soft32
	.byte	0
handlers64:
	handler	2, nmi64
	handler	6, ud64
	handler	VECTOR_SELF, self64
	handler	VECTOR_SOFT, soft64
	.byte	0

.balign 8
gdt:
	.quad	0
	.quad	0x00CF9B000000FFFF        # 0x08 32-bit code
	.quad	0x00CF93000000FFFF        # 0x10 data
	.quad	0x00AF9B000000FFFF        # 0x18 64-bit code
gdt_end:
gdt_pointer:
	.word	gdt_end - gdt - 1
	.long	gdt
idt32_pointer:
	.word	8 * (VECTOR_SOFT + 1) - 1
	.long	IDT32
idt64_pointer:
	.word	16 * (VECTOR_SOFT + 1) - 1
	.quad	IDT64
to_report:                                # back to compatibility mode: 32-bit code under 4-level paging
	.long	report
	.word	0x08

text:	.asciz "smm corners: log bytes, lost interrupts: "
