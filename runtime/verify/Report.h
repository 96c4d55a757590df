// Inside the verifier: collecting violations and wording them.
#pragma once

#include "runtime/verify/Operands.h"
#include "runtime/verify/Verify.h"

#include <concepts>
#include <string>
#include <string_view>

namespace distc::verify {

inline void appendPart(std::string &out, std::string_view text) { out += text; }
template <std::integral T> void appendPart(std::string &out, T value) { out += std::to_string(value); }

/// The parts as one string.
template <typename... Parts> std::string cat(const Parts &...parts) {
  std::string out;
  (appendPart(out, parts), ...);
  return out;
}

/// "[2, 64, 128]"; of a long list, the begin.
template <typename Range> std::string listText(const Range &values) {
  std::string out = "[";
  size_t n = 0;
  for (auto value : values) {
    if (n++ == 16)
      return out + ", …]";
    if (n > 1)
      out += ", ";
    appendPart(out, value);
  }
  return out + "]";
}

class Reporter {
public:
  explicit Reporter(size_t limit) : limit_(limit) {}

  bool full() const { return violations_.size() >= limit_; }
  /// All violations, those beyond the limit too: a check that compares counts must see its failures even when full.
  size_t count() const { return count_; }
  void add(std::string kind, std::string message, std::vector<uint32_t> ranks = {}, std::vector<uint32_t> ids = {}) {
    ++count_;
    if (!full())
      violations_.push_back({std::move(kind), std::move(message), std::move(ranks), std::move(ids)});
  }
  std::vector<Violation> take() { return std::move(violations_); }

private:
  size_t limit_;
  size_t count_ = 0;
  std::vector<Violation> violations_;
};

/// One program of one rank, and what to call things in it.
struct ProgramRef {
  const plan::Plan &plan;
  const plan::Program &program;
  size_t index;

  uint32_t rank() const { return plan.mesh()->rank(); }
  const plan::Instruction &instruction(size_t i) const {
    return *program.instructions()->Get(static_cast<flatbuffers::uoffset_t>(i));
  }
  const plan::Buffer &buffer(size_t i) const { return *program.buffers()->Get(static_cast<flatbuffers::uoffset_t>(i)); }
  /// The buffer that owns the memory of `i`.
  uint32_t root(uint32_t i) const { return buffer(i).parent() < 0 ? i : static_cast<uint32_t>(buffer(i).parent()); }

  /// "rank 1, decode program 0".
  std::string text() const;
  /// "rank 1, decode program 0, instruction 17 (Linear, layers.3.attention.o)".
  std::string text(size_t instruction) const;
  /// "'layers.3.attention' (buffer 12)".
  std::string value(size_t buffer) const;
};

/// a · b, or the largest number where that overflows.
inline uint64_t saturatingMul(uint64_t a, uint64_t b) {
  uint64_t result;
  return __builtin_mul_overflow(a, b, &result) ? ~uint64_t(0) : result;
}
inline uint64_t saturatingAdd(uint64_t a, uint64_t b) {
  uint64_t result;
  return __builtin_add_overflow(a, b, &result) ? ~uint64_t(0) : result;
}

/// The layer of a weight by its name, "layers.3.attention_norm"; -1: it is of none.
int64_t layerOf(std::string_view weight);

// The proofs. Each assumes those above it: Structure makes every index safe to follow.
void checkStructure(const plan::Plan &plan, Reporter &reporter);
void checkWeightTables(const plan::Plan &plan, Reporter &reporter);
void checkPrograms(const plan::Plan &plan, Reporter &reporter);
void checkSchedules(const plan::Plan &plan, Reporter &reporter);
void checkMemory(const plan::Plan &plan, Reporter &reporter);
void checkSet(std::span<const plan::Plan *const> plans, Reporter &reporter);
void checkCoverage(std::span<const plan::Plan *const> plans, Reporter &reporter);
void checkCommunication(std::span<const plan::Plan *const> plans, Reporter &reporter);
void checkSlices(std::span<const plan::Plan *const> plans, Reporter &reporter);
void checkValues(std::span<const plan::Plan *const> plans, Reporter &reporter);

} // namespace distc::verify
