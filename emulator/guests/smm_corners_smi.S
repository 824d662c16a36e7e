# SMI handler of the SMM corner-case guest: loaded at SMBASE + 0x8000 and NEW_SMBASE + 0x8000 of address space 1.
# 16-bit code, CS base = SMBASE, the other segments flat. It finds out by the revision which save area it has.

.intel_syntax noprefix
.include "smm_corners.inc"
.code16
.set AREA64_SHADOW,  0xFECB
.set AREA64_SMBASE,  0xFF00
.set AREA32_SHADOW,  0xFF1A
.set AREA32_SMBASE,  0xFEF8
.set AREA_REVISION,  0xFEFC
.set IVT,            0x9000  # offset from SMBASE
.set STACK,          0x6F00

.globl _start
_start:
	xor	eax, eax
	xchg	ax, [COMMAND]
	mov	si, AREA64_SHADOW
	mov	di, AREA64_SMBASE
	cmp	byte ptr cs:[AREA_REVISION], 0x64
	je	1f
	mov	si, AREA32_SHADOW
	mov	di, AREA32_SMBASE
1:	mov	bx, [LOG_POINTER]
	mov	cl, cs:[si]
	or	cl, TAG_SMI
	mov	[bx], cl
	inc	word ptr [LOG_POINTER]

	mov	ebp, LAPIC
	test	al, DO_NMI
	jz	2f
	mov	dword ptr [ebp + 0x300], ICR_OWN_NMI
2:	test	al, DO_INTERRUPT
	jz	3f
	mov	dword ptr [ebp + 0x300], ICR_SELF_INTERRUPT
3:	test	al, DO_SECOND
	jz	4f
	out	0xB2, al
4:	test	al, DO_CLEAR
	jz	5f
	mov	byte ptr cs:[si], 0
5:	test	al, DO_RELOCATE
	jz	6f
	mov	dword ptr cs:[di], NEW_SMBASE
6:	test	al, DO_NEST
	jz	7f
	jmp	nest
7:	rsm

# Interrupt tables of its own, then one event of each kind: an exception may come at any time; the NMI once an IRET,
# here that of the exception's handler, has lifted the block that SMM entry put in place; the interrupt behind the
# shadow of STI.
nest:
	mov	sp, STACK
	xor	edx, edx
	mov	dx, cs
	mov	cs:[IVT + 4 * 2 + 2], dx
	mov	cs:[IVT + 4 * 6 + 2], dx
	mov	cs:[IVT + 4 * VECTOR_SELF + 2], dx
	mov	word ptr cs:[IVT + 4 * 2], offset on_nmi
	mov	word ptr cs:[IVT + 4 * 6], offset on_ud
	mov	word ptr cs:[IVT + 4 * VECTOR_SELF], offset on_self
	shl	edx, 4
	add	edx, IVT
	mov	cs:[idtr + 2], edx
	lidt	cs:[idtr]
	ud2
	sti
	nop
	cli
	jmp	7b

.macro log tag
	mov	bx, [LOG_POINTER]
	mov	byte ptr [bx], \tag
	inc	word ptr [LOG_POINTER]
.endm

on_nmi:
	log	TAG_NMI | TAG_IN_SMM
	iret
on_self:
	log	TAG_SELF | TAG_IN_SMM
	mov	dword ptr [ebp + 0xB0], 0
	iret
on_ud:
	log	TAG_UD | TAG_IN_SMM
	mov	bx, sp
	add	word ptr [bx], 2
	iret

idtr:
	.word	4 * (VECTOR_SELF + 1) - 1
	.long	0
