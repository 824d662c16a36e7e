# The ticker: timer interrupts, a working set that is dirtied all the time, a checksum over it printed to the serial
# port, and SMIs placed by the SMI timer exactly into interrupt shadows. Loaded at 0x8000, entered in real mode at
# 0000:8000. Assembled twice: as 32-bit protected mode with paging (LONG=0) and as 64-bit long mode (LONG=1).
#
# It checks itself. The SMI handler sends the guest an interrupt; if the interrupt shadow survives SMM, the
# shadowed instruction runs before the interrupt is taken, and the return address shows it. At the end the
# checksum is computed afresh from the working set. Exit code at port 0xF4: 0 good, 1 checksum wrong, 2 a shadow was
# lost, 3 both, 0x80 unexpected exception.

.intel_syntax noprefix
.include "ticker.inc"
.ifndef LONG
.set LONG, 0
.endif

# Guest variables.
.set TICK,       0x640   # u32: timer interrupts so far
.set EXPECTED,   0x648   # pointer: return address that the next self-interrupt or NMI must find, 0 for any
.set EXPECT_NMI, 0x650   # pointer: the same for the NMI
.set INT_COUNT,  0x658   # u32: self-interrupts taken
.set NMI_COUNT,  0x65C   # u32: NMIs taken
.set LOST,       0x660   # u32: interrupts that came before the shadowed instruction
.set SHADOWED,   0x664   # u32: counted by the shadowed instructions
.set SEEN,       0x668   # u32: tick that the main loop has handled
.set LINE,       0x66C   # u32: lines printed
.set KIND,       0x670   # u32: which shadow comes next
.set OTHER,      0x674   # u32: interrupts nobody asked for

.set IDT,        0x10000
.set TABLES,     0x11000
.set STACK,      0x20000
.set WORKING_SET, 0x100000
.set SLOTS,      8       # words used in each page, 512 bytes apart
.set WORK_CHUNK, 64      # pages dirtied between two looks at the clock

.if LONG
.set P_AX, rax
.set P_BX, rbx
.set P_CX, rcx
.set P_DX, rdx
.set P_SI, rsi
.set P_DI, rdi
.set P_BP, rbp
.set P_SP, rsp
.set PTR_BYTES, 8
.set GATE, 16
.set CODE, 0x18
.else
.set P_AX, eax
.set P_BX, ebx
.set P_CX, ecx
.set P_DX, edx
.set P_SI, esi
.set P_DI, edi
.set P_BP, ebp
.set P_SP, esp
.set PTR_BYTES, 4
.set GATE, 8
.set CODE, 0x08
.endif

.macro store_pointer address, label
.if LONG
	mov	qword ptr [\address], offset \label
.else
	mov	dword ptr [\address], offset \label
.endif
.endm

.macro return_from_interrupt
.if LONG
	iretq
.else
	iretd
.endif
.endm

# Tell the handler what to do and let an SMI come `ns` after the start of the OUT; a step takes 1000 ns.
.macro place_smi ns
	mov	eax, \ns
	out	0xB8, eax
.endm

.code16
.globl _start
_start:
	cli
	xor	eax, eax
	mov	ds, ax
	mov	ss, ax
	mov	sp, 0x7000
	lgdt	[gdt_pointer]
	mov	eax, cr0
	or	al, 1
	mov	cr0, eax
	ljmp	0x08, offset protected

.code32
protected:
	mov	eax, 0x10
	mov	ds, eax
	mov	es, eax
	mov	ss, eax
	mov	esp, STACK
.if LONG
	# Four levels, identity: the first 2 MiB in 4 KiB pages, the rest of 4 GiB in 2 MiB pages.
	mov	dword ptr [TABLES], TABLES + 0x1003
	mov	ecx, 4
	mov	edi, TABLES + 0x1000
	mov	eax, TABLES + 0x2003
1:	mov	[edi], eax
	add	eax, 0x1000
	add	edi, 8
	loop	1b
	mov	ecx, 2048
	mov	edi, TABLES + 0x2000
	mov	eax, 0x83
2:	mov	[edi], eax
	add	eax, 0x200000
	add	edi, 8
	loop	2b
	mov	dword ptr [TABLES + 0x2000], TABLES + 0x6003
	mov	ecx, 512
	mov	edi, TABLES + 0x6000
	mov	eax, 0x3
3:	mov	[edi], eax
	add	eax, 0x1000
	add	edi, 8
	loop	3b
	mov	eax, 0x20            # CR4.PAE
	mov	cr4, eax
	mov	eax, TABLES
	mov	cr3, eax
	mov	ecx, 0xC0000080      # EFER.LME
	rdmsr
	or	ah, 1
	wrmsr
	mov	eax, cr0
	or	eax, 0x80010000      # PG, WP
	mov	cr0, eax
	ljmp	0x18, offset paged
.code64
.else
	# Two levels, identity: the first 4 MiB in 4 KiB pages, the rest of 4 GiB in 4 MiB pages.
	mov	ecx, 1024
	mov	edi, TABLES
	mov	eax, 0x83
1:	mov	[edi], eax
	add	eax, 0x400000
	add	edi, 4
	loop	1b
	mov	dword ptr [TABLES], TABLES + 0x1003
	mov	ecx, 1024
	mov	edi, TABLES + 0x1000
	mov	eax, 0x3
2:	mov	[edi], eax
	add	eax, 0x1000
	add	edi, 4
	loop	2b
	mov	eax, 0x10            # CR4.PSE
	mov	cr4, eax
	mov	eax, TABLES
	mov	cr3, eax
	mov	eax, cr0
	or	eax, 0x80010000      # PG, WP
	mov	cr0, eax
	ljmp	0x08, offset paged
.endif

paged:
.if LONG
	mov	rsp, STACK
.endif
	call	install_idt
	call	start_devices
	call	prepare_working_set
	sti

# ---- main loop: ebx checksum, edx round, edi page, esi end of the working set, ebp byte offset of the slot ----
main:
	mov	ecx, WORK_CHUNK
1:	mov	eax, [P_DI + P_BP]
	sub	ebx, eax
	imul	eax, eax, 1664525
	lea	eax, [P_AX + P_DX + 1013904223]
	mov	[P_DI + P_BP], eax
	add	ebx, eax
	add	edi, 4096
	cmp	edi, esi
	jb	2f
	mov	edi, WORKING_SET
	inc	edx
	add	ebp, 4096 / SLOTS
	and	ebp, 4095
2:	dec	ecx
	jnz	1b

	mov	eax, [TICK]
	cmp	eax, [SEEN]
	je	main
	mov	[SEEN], eax
	push	P_DX
	call	on_tick
	pop	P_DX
	mov	eax, [SEEN]
	cmp	eax, [PARAM_TICKS]
	jb	main
	jmp	finish

# ---- once per tick: perhaps an SMI in a shadow, perhaps a line ----
on_tick:
	add	[SMRAM_PRIVATE], eax  # the normal world's bytes at the address where SMM has its own
	mov	ecx, [PARAM_SMI_TICKS]
	jecxz	1f
	xor	edx, edx
	div	ecx
	test	edx, edx
	jnz	1f
	call	shadow_exercise
1:	mov	eax, [SEEN]
	xor	edx, edx
	mov	ecx, [PARAM_LINE_TICKS]
	div	ecx
	test	edx, edx
	jnz	2f
	inc	dword ptr [LINE]
	call	print_line
2:	ret

shadow_exercise:
	mov	ecx, [KIND]
	inc	dword ptr [KIND]
	and	ecx, 7
	mov	dword ptr [SMM_COMMAND], DO_INTERRUPT
	cli
	jmp	[P_CX * PTR_BYTES + exercises]

sti_shadow:
	store_pointer EXPECTED, 1f
	place_smi 2000
	sti
	inc	dword ptr [SHADOWED]
1:	ret

mov_ss_shadow:
	store_pointer EXPECTED, 1f
	mov	ecx, ss
	place_smi 3000
	sti
	mov	ss, ecx
	inc	dword ptr [SHADOWED]
1:	ret

pop_ss_shadow:                    # long mode has no POP SS: MOV SS from memory there
	store_pointer EXPECTED, 1f
	mov	ecx, ss
	push	P_CX
	place_smi 3000
	sti
.if LONG
	mov	ss, [rsp]
	pop	P_CX
.else
	pop	ss
	inc	dword ptr [SHADOWED]
.endif
1:	ret

no_shadow:
	store_pointer EXPECTED, 1f
	place_smi 3000
	sti
	inc	dword ptr [SHADOWED]
1:	ret

sti_hlt:                          # the shadow covers HLT: the interrupt must wake it, not come before it
	store_pointer EXPECTED, 1f
	place_smi 2000
	sti
	hlt
1:	ret

command_port:
	store_pointer EXPECTED, 1f
	mov	al, 0x5A
	out	0xB2, al
	sti
	inc	dword ptr [SHADOWED]
1:	ret

nmi_in_smm:                       # both are held off by the shadow; the NMI goes first
	mov	dword ptr [SMM_COMMAND], DO_INTERRUPT | DO_NMI
	store_pointer EXPECTED, 1f
	store_pointer EXPECT_NMI, 1f
	mov	ecx, ss
	place_smi 3000
	sti
	mov	ss, ecx
	inc	dword ptr [SHADOWED]
1:	ret

second_smi:                       # taken between RSM and the shadowed instruction: the shadow goes aside twice
	mov	dword ptr [SMM_COMMAND], DO_INTERRUPT | DO_SECOND_SMI
	store_pointer EXPECTED, 1f
	place_smi 2000
	sti
	inc	dword ptr [SHADOWED]
1:	ret

# ---- interrupts ----
timer_interrupt:
	push	P_AX
	inc	dword ptr [TICK]
	mov	al, 0x20
	out	0x20, al
	pop	P_AX
	return_from_interrupt

self_interrupt:
	push	P_AX
	inc	dword ptr [INT_COUNT]
	mov	P_AX, [EXPECTED]
	test	P_AX, P_AX
	jz	1f
	cmp	P_AX, [P_SP + PTR_BYTES]
	je	1f
	inc	dword ptr [LOST]
1:	xor	eax, eax
	mov	[EXPECTED], P_AX
	mov	eax, LAPIC + 0xB0
	mov	dword ptr [P_AX], 0
	pop	P_AX
	return_from_interrupt

nmi:
	push	P_AX
	inc	dword ptr [NMI_COUNT]
	mov	P_AX, [EXPECT_NMI]
	test	P_AX, P_AX
	jz	1f
	cmp	P_AX, [P_SP + PTR_BYTES]
	je	1f
	inc	dword ptr [LOST]
1:	xor	eax, eax
	mov	[EXPECT_NMI], P_AX
	pop	P_AX
	return_from_interrupt

other_interrupt:
	push	P_AX
	inc	dword ptr [OTHER]
	mov	eax, LAPIC + 0xB0
	mov	dword ptr [P_AX], 0
	pop	P_AX
	return_from_interrupt

bad_exception:
	mov	al, 0x80
	out	0xF4, al
	hlt

# ---- the end: the sum afresh, the last line, the exit code ----
finish:
	cli
	xor	eax, eax
	mov	edi, WORKING_SET
	mov	ecx, 4096
1:	add	eax, [P_DI]
	add	eax, [P_DI + 512]
	add	eax, [P_DI + 1024]
	add	eax, [P_DI + 1536]
	add	eax, [P_DI + 2048]
	add	eax, [P_DI + 2560]
	add	eax, [P_DI + 3072]
	add	eax, [P_DI + 3584]
	add	edi, ecx
	cmp	edi, esi
	jb	1b
	push	P_AX
	mov	P_SI, offset text_final
	call	print_text
	call	print_numbers
	mov	P_SI, offset text_check
	call	print_text
	mov	eax, [P_SP]
	call	print_hex
	call	print_newline
	pop	P_CX
	xor	eax, eax
	cmp	ecx, ebx
	je	2f
	or	al, 1
2:	cmp	dword ptr [LOST], 0
	je	3f
	or	al, 2
3:	out	0xF4, al
	hlt

# ---- output ----
print_line:
	push	P_SI
	mov	P_SI, offset text_line
	call	print_text
	mov	eax, [LINE]
	call	print_decimal
	call	print_numbers
	call	print_newline
	pop	P_SI
	ret

print_numbers:
	mov	P_SI, offset text_tick
	call	print_text
	mov	eax, [SEEN]
	call	print_decimal
	mov	P_SI, offset text_sum
	call	print_text
	mov	eax, ebx
	call	print_hex
	mov	P_SI, offset text_smi
	call	print_text
	mov	eax, [SMI_COUNT]
	call	print_decimal
	mov	P_SI, offset text_smm
	call	print_text
	mov	eax, [SMM_SUM]
	call	print_hex
	mov	P_SI, offset text_lost
	call	print_text
	mov	eax, [LOST]
	jmp	print_decimal

print_text:                       # zero-terminated at esi
1:	mov	al, [P_SI]
	inc	P_SI
	test	al, al
	jz	2f
	call	print_char
	jmp	1b
2:	ret

print_newline:
	mov	al, 10
print_char:                       # al; changes ah, dx
	mov	ah, al
	mov	dx, 0x3FD
1:	in	al, dx
	test	al, 0x20
	jz	1b
	mov	dx, 0x3F8
	mov	al, ah
	out	dx, al
	ret

print_hex:                        # eax, eight digits
	mov	ecx, 8
1:	rol	eax, 4
	push	P_AX
	and	al, 15
	cmp	al, 10
	jb	2f
	add	al, 'a' - '0' - 10
2:	add	al, '0'
	call	print_char
	pop	P_AX
	loop	1b
	ret

print_decimal:                    # eax, six digits at least
	push	P_DI
	mov	edi, 10
	xor	ecx, ecx
1:	xor	edx, edx
	div	edi
	push	P_DX
	inc	ecx
	test	eax, eax
	jnz	1b
	cmp	ecx, 6
	jb	1b
2:	pop	P_AX
	add	al, '0'
	call	print_char
	loop	2b
	pop	P_DI
	ret

# ---- set-up ----
install_idt:                      # exceptions end the run, unknown interrupts are counted
	mov	edi, IDT
	mov	ecx, 256
1:	mov	eax, offset other_interrupt
	cmp	ecx, 256 - 32
	jbe	2f
	mov	eax, offset bad_exception
2:	call	write_gate
	loop	1b
	mov	edi, IDT + 2 * GATE
	mov	eax, offset nmi
	call	write_gate
	mov	edi, IDT + 0x20 * GATE
	mov	eax, offset timer_interrupt
	call	write_gate
	mov	edi, IDT + VECTOR_SELF * GATE
	mov	eax, offset self_interrupt
	call	write_gate
	lidt	[idt_pointer]
	ret

write_gate:                       # handler eax (below 64 KiB) into the gate at edi; moves edi on
	or	eax, CODE << 16
	mov	[P_DI], eax
	mov	dword ptr [P_DI + 4], 0x8E00
	add	edi, GATE
	ret

start_devices:
	mov	P_SI, offset device_writes
	xor	edx, edx
1:	mov	dx, [P_SI]
	test	edx, edx
	jz	2f
	mov	al, [P_SI + 2]
	out	dx, al
	add	esi, 3
	jmp	1b
2:	mov	eax, [PARAM_PIT_COUNT]
	out	0x40, al
	mov	al, ah
	out	0x40, al
	mov	eax, LAPIC + 0xF0
	mov	dword ptr [P_AX], 0x1FF       # software-enabled, spurious vector 0xFF
	ret

prepare_working_set:
	mov	edi, WORKING_SET
	mov	esi, [PARAM_PAGES]
	shl	esi, 12
	add	esi, edi
	xor	ebx, ebx
	xor	edx, edx
	xor	ebp, ebp
	ret

# ---- tables ----
.macro device_write port, value
	.word	\port
	.byte	\value
.endm

device_writes:
	device_write 0x20, 0x11       # 8259 pair: ICW1-4, vectors 0x20 and 0x28, only the timer unmasked
	device_write 0x21, 0x20
	device_write 0x21, 0x04
	device_write 0x21, 0x01
	device_write 0xA0, 0x11
	device_write 0xA1, 0x28
	device_write 0xA1, 0x02
	device_write 0xA1, 0x01
	device_write 0x21, 0xFE
	device_write 0xA1, 0xFF
	device_write 0x3FB, 0x80      # 16550: 115200 8N1, FIFO on, no interrupts
	device_write 0x3F8, 0x01
	device_write 0x3F9, 0x00
	device_write 0x3FB, 0x03
	device_write 0x3FA, 0x07
	device_write 0x3FC, 0x03
	device_write 0x43, 0x34       # 8254: counter 0, both bytes, rate generator; the count follows
	.word	0

.balign 8
exercises:
.macro exercise label
.if LONG
	.quad	\label
.else
	.long	\label
.endif
.endm
	exercise sti_shadow
	exercise mov_ss_shadow
	exercise pop_ss_shadow
	exercise no_shadow
	exercise sti_hlt
	exercise command_port
	exercise nmi_in_smm
	exercise second_smi

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
idt_pointer:
	.word	256 * GATE - 1
.if LONG
	.quad	IDT
.else
	.long	IDT
.endif

text_line:	.asciz "line "
text_final:	.asciz "final"
text_tick:	.asciz " tick "
text_sum:	.asciz " sum "
text_check:	.asciz " check "
text_smi:	.asciz " smi "
text_smm:	.asciz " smm "
text_lost:	.asciz " lost "
