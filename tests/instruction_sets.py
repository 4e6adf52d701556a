"""What a disassembly tells: which functions use instructions that not every x86-64 processor has."""

import re
from collections import Counter, defaultdict
from pathlib import Path
from typing import NamedTuple

from native_build import call

# The functions that kernels.cpp calls only where the processor has what they use.
GUARDED = {"avx2.cpp": "avx2", "avx512bw.cpp": "avx512bw", "avx512.cpp": "avx512"}

# What came after SSE2. `tzcnt` is not among them: compilers write it for `bsf`, as which older processors run it, where
# its input is not zero.
_NEWER = re.compile(
    r"v(?!err\b|erw\b)[a-z]\w*"  # AVX and AVX-512, all of them
    r"|k(?:add|and|andn|mov|not|or|ortest|shiftl|shiftr|test|unpck|xnor|xor)[bwdq]{1,2}"
    r"|andn|blsi|blsr|blsmsk|bextr|bzhi|pdep|pext|shlx|shrx|sarx|rorx|mulx|lzcnt|popcnt|movbe|ad[co]x|crc32[bwlq]?"
    r"|addsubp[sd]|h(?:add|sub)p[sd]|lddqu|movddup|movs[hl]dup"  # SSE3
    r"|pabs[bwd]|palignr|ph(?:add|sub)s?[wd]|pmaddubsw|pmulhrsw|pshufb|psign[bwd]"  # SSSE3
    r"|p?blend\w+|dpp[sd]|extractps|insertps|movntdqa|mpsadbw|packusdw|pcmpeqq|pextr[bdq]|phminposuw"  # SSE4
    r"|pinsr[bdq]|pm(?:ax|in)(?:s[bd]|u[wd])|pmov[sz]x\w+|pmuldq|pmulld|ptest|round[ps][ds]|pcmpgtq|pcmp[ei]str[im]"
    r"|aes\w+|pclmul\w+|sha(?:1|256)\w+|gf2p8\w+"
)
_EVEX = re.compile(r"%zmm|%[xy]mm(?:1[6-9]|2\d|3[01])|%k[0-7]|\bv\w*popcnt[bwdq]\b")
_POPCOUNT = re.compile(r"vpopcnt[bwdq]|vpshufbitqmb")  # of BITALG and VPOPCNTDQ
_MEMBER = re.compile(r"(\S+):\s+file format")
_FUNCTION = re.compile(r"[0-9a-f]+ <(.*)>:")
_INSTRUCTION = re.compile(r"\s*[0-9a-f]+:\s+(?:(?:lock|repz?|repnz|data16|notrack|bnd|cs|ds|\{\w+\}) )*(\S+)")


class Function(NamedTuple):
    source: str  # the member of an archive without .o or .obj, or the file itself
    name: str  # as the linker knows it
    local: bool  # no other object can be linked with it
    newer: Counter  # how often it uses each instruction that not every processor has
    evex: bool  # any of AVX-512


def functions(path):
    """Those functions of an archive or module that use newer instructions."""
    local = set()
    for line in call("objdump", "-t", path).splitlines():
        if match := _MEMBER.match(line):
            source = match[1]
        elif re.match(r"[0-9a-f]{16} l ", line):
            local.add((source, line.split()[-1]))
    found = defaultdict(lambda: [Counter(), False])
    source = name = ""
    for line in call("objdump", "-d", "--no-show-raw-insn", path).splitlines():
        if match := _MEMBER.match(line):
            source = match[1]
        elif match := _FUNCTION.match(line):
            name = match[1]
        elif (match := _INSTRUCTION.match(line)) and _NEWER.fullmatch(match[1]):
            seen = found[source, name]
            seen[0][match[1]] += 1
            seen[1] |= bool(_EVEX.search(line))
    return [
        Function(re.sub(r"\.o(bj)?$", "", Path(source).name), name, (source, name) in local, newer, evex)
        for (source, name), (newer, evex) in found.items()
    ]


def faults(found):
    """What is wrong with functions of an archive: one line each."""
    lines = []
    for function in found:
        level = GUARDED.get(function.source)
        what = f"{function.name} in {function.source} uses {', '.join(sorted(function.newer)[:4])}"
        if level is None:
            lines.append(f"{what} and is called on every processor")
        elif not function.local:
            lines.append(f"{what} and may be linked in place of another object's copy")
        elif level == "avx2" and function.evex:
            lines.append(f"{what}, which AVX2 does not have")
        elif level == "avx512bw" and any(_POPCOUNT.fullmatch(name) for name in function.newer):
            lines.append(f"{what} and a popcount of registers, which this AVX-512 does not have")
    return lines
