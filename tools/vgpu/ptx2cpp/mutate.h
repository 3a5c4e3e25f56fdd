// Mutation testing: small wrong changes of a kernel's instructions, which its tests should notice.
#pragma once

#include <string>
#include <vector>

#include "tools/vgpu/ptx2cpp/ptx.h"

namespace ptx2cpp {

struct Mutant {
    std::string change;  // "add for sub", "no bar.sync" ...
    bool removed = false;
    Instruction instruction;  // what stands instead, unless removed
};

// The wrong variants of an instruction, in a fixed order; most instructions have one or two. `forward`: a branch to a
// label that is still to come (taking a backward one always would never end).
std::vector<Mutant> mutants_of(const Instruction& i, bool forward);

// A mutant as --list-mutants shows it.
struct MutantPlace {
    std::string kernel, file, text, change;
    int line = 0;
};

}  // namespace ptx2cpp
