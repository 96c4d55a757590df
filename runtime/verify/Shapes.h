// The rule of each instruction: what its operands must agree on.
#pragma once

#include "runtime/verify/Report.h"

namespace distc::verify {

/// All indices of the instruction are in range.
void checkShapes(const ProgramRef &ref, size_t instruction, Reporter &reporter);

} // namespace distc::verify
