// Random weights: the same value for the same element of a source tensor, whatever part of it a rank holds.
#pragma once

#include "runtime/schema/plan_generated.h"

#include <cstdint>
#include <string_view>

namespace distc {

/// What every value of one tensor starts from.
uint64_t randomKey(uint64_t seed, std::string_view tensor);

/// Element `element` of the tensor of that key: uniform with zero mean and standard deviation 1.
float randomValue(uint64_t key, uint64_t element);

/// True for the types that fillRandom writes: all but I32. Of quantized ones it makes blocks of random bits whose
/// values spread as those of other types do, always Uniform; they are not the same values.
bool canFillRandom(plan::DType dtype);

/// Writes elements [from, from + count) of the tensor, as `init` says, to `out`.
void fillRandom(void *out, plan::DType dtype, plan::Init init, float scale, uint64_t key, uint64_t from,
                uint64_t count);

} // namespace distc
