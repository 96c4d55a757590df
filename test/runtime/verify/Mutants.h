// Faults that are seeded into a valid set by hand, each with what the verifier must say of it. Test files of this
// folder have those of one part of the verifier each.
#pragma once

#include "ValidSet.h"
#include "runtime/verify/Verify.h"

#include <gmock/gmock.h>

#include <functional>
#include <optional>

namespace distc::test {

std::string textOf(const std::vector<Violation> &violations);

struct Mutant {
  std::string name, kind;
  std::vector<std::string> words; // that the message must hold
  std::function<void(ValidSet &)> seed;
};

void PrintTo(const Mutant &mutant, std::ostream *out);
plan::Buffer changed(const plan::Buffer &b, uint64_t offset, uint64_t bytes, uint32_t width);
void move(ValidSet &set, uint32_t rank, uint32_t program, uint32_t buffer, uint64_t offset);
void swapInstructions(plan::ProgramT &program, size_t a, size_t b);
/// The first segment of a dimension, with another begin or count.
void setSegment(ValidSet &set, uint32_t rank, const std::string &weight, size_t dim, std::optional<uint64_t> begin,
                std::optional<uint64_t> count);
void swapSlices(ValidSet &set, const std::string &weight, uint32_t a = 0, uint32_t b = 1);
void removeOp(ValidSet &set, uint32_t rank, uint32_t program, const std::string &label);
/// `norm1` as a LayerNorm with the vector `bias`.
void toLayerNorm(ValidSet &s, uint32_t rank, uint32_t program, const std::string &bias);

class Mutants : public testing::TestWithParam<Mutant> {};

inline std::string nameOf(const testing::TestParamInfo<Mutant> &info) { return info.param.name; }

} // namespace distc::test
