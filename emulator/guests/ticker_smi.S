# SMI handler of the ticker: loaded at SMBASE + 0x8000 of address space 1. 16-bit code, flat 4 GiB segments.
# RSM restores every general register, so none is saved.

.intel_syntax noprefix
.include "ticker.inc"
.code16
.globl _start
_start:
	inc	dword ptr [SMI_COUNT]
	xor	eax, eax
	xchg	eax, [SMM_COMMAND]

	mov	edi, LAPIC
	test	al, DO_NMI
	jz	1f
	mov	dword ptr [edi + 0x310], 0
	mov	dword ptr [edi + 0x300], ICR_OWN_NMI
1:	test	al, DO_INTERRUPT
	jz	2f
	mov	dword ptr [edi + 0x300], ICR_SELF_INTERRUPT
2:	test	al, DO_SECOND_SMI
	jz	3f
	out	0xB2, al

	# Work on memory that only SMM sees; its sum shows in the guest's output.
3:	mov	edi, SMRAM_PRIVATE
	mov	ecx, SMRAM_WORDS
	mov	ebx, [SMM_SUM]
4:	mov	eax, [edi]
	sub	ebx, eax
	imul	eax, eax, 1664525
	add	eax, ecx
	mov	[edi], eax
	add	ebx, eax
	add	edi, 4
	loop	4b
	mov	[SMM_SUM], ebx
	rsm
