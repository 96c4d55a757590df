// The arithmetic of reductions: members in the order of their index, element by element.
#pragma once

#include "runtime/schema/plan_generated.h"

#include <cstddef>
#include <span>

namespace distc {

/// True for the element types that reduce() knows: F32 and I32.
bool canReduce(plan::DType dtype);

/// For each i in [begin, end): value = ins[0][i] op ins[1][i] op …, written to element i - shift of every one of
/// `outs`. An out may be one of the ins.
void reduce(std::span<const void *const> ins, std::span<void *const> outs, size_t begin, size_t end, size_t shift,
            plan::DType dtype, plan::ReduceOp op);

} // namespace distc
