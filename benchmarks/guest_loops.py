"""Five guest loops in 16, 32 and 64-bit code; each runs its outer loop EBP times and ends in HLT.

register: ADD, DEC, JNZ. memory: read, add and write back over 4 KiB with computed addresses. crc: bitwise CRC-32 of
4 KiB. sieve: primes below 8192, a byte each. call: two levels of calls with PUSH and POP. Data lies at 0x8000.
"""

LOOPS: dict[str, dict[int, str]] = {
    "register": {
        16: "b9e80301d84975fb664d75f4f4",
        32: "b9e803000001d84975fb4d75f3f4",
        64: "48c7c1e80300004801d848ffc975f8ffcd75edf4",
    },
    "memory": {
        16: "be008031db8b0001d889008d780801fa83c30881fb001072ec664d75e6f4",
        32: "be0080000031db8b043301d88904338d7c330801fa83c30881fb0010000072e74d75e2f4",
        64: "48c7c6008000004831db488b04334801d848890433488d7c33084801fa4883c3084881fb0010000072e0ffcd75d9f4",
    },
    "crc": {
        16: "be0080bf001066b8ffffffff320446b9080066d1e8730666352083b8ed4975f24f75e9664d75d9f4",
        32: "be00800000bf00100000b8ffffffff320646b908000000d1e87305352083b8ed4975f44f75e94d75d7f4",
        64: (
            "48c7c60080000048c7c700100000b8ffffffff320648ffc648c7c108000000d1e87305352083b8ed48ffc975"
            "f248ffcf75e1ffcd75caf4"
        ),
    },
    "sieve": {
        16: (
            "be0080b80020c60400464875f9be020080bcfe7f00751389f701f781ff00207309c685fe7f0101f7ebf14683fe5b72e0664d75ccf4"
        ),
        32: (
            "be00800000b800200000c60600464875f9be0200000080befe7f000000751789f701f781ff00200000730bc6"
            "87fe7f00000101f7ebed4683fe5b72da4d75c1f4"
        ),
        64: (
            "48c7c60080000048c7c000200000c6060048ffc648ffc875f548c7c60200000080befe7f000000751b4889f7"
            "4801f74881ff00200000730cc687fe7f0000014801f7ebeb48ffc64883fe5b72d3ffcd75aff4"
        ),
    },
    "call": {
        16: "b9e803e808004975fa664d75f3f453e802005bc340c3",
        32: "b9e8030000e8070000004975f84d75f0f453e8020000005bc340c3",
        64: "48c7c1e8030000e80a00000048ffc975f6ffcd75ebf453e8020000005bc348ffc0c3",
    },
}
"""Name -> bits -> machine code."""
