// The instructions of a program: what feeds and what awaits each, and what it is in words. Ops are known by their
// operands and by the names of the schema alone, so that a new one needs nothing here.
#pragma once

#include "runtime/schema/plan_generated.h"
#include "runtime/verify/Operands.h"

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace distc::explain {

/// A program of a rank, with the dependencies of its instructions. Instructions are meant by their index.
class Flow {
public:
  Flow(const plan::Plan &plan, const plan::Program &program);

  const plan::Plan &plan() const { return plan_; }
  const plan::Program &program() const { return program_; }
  size_t size() const { return operands_.size(); }
  const plan::Instruction &at(size_t i) const {
    return *program_.instructions()->Get(static_cast<flatbuffers::uoffset_t>(i));
  }
  const Operands &operands(size_t i) const { return operands_[i]; }
  std::string_view label(size_t i) const;
  std::string_view valueName(uint32_t buffer) const;
  const plan::Buffer &buffer(uint32_t b) const { return *program_.buffers()->Get(b); }

  /// The instruction that wrote what `i` reads of `buffer`.
  std::optional<size_t> writer(uint32_t buffer, size_t i) const;
  /// Those after `i` that read what it writes.
  std::vector<size_t> readers(size_t i) const;
  std::optional<size_t> signaller(uint32_t event) const;
  std::vector<size_t> waiters(uint32_t event) const;
  /// Whether what `i` writes reaches an instruction of `op` through others that only change its form: without
  /// weights, or the norm of it.
  bool reaches(size_t i, plan::Op op, unsigned hops = 3) const;

  /// "AllReduce layers.0.o".
  std::string name(size_t i) const;
  /// "[tokens, 3584] F32, partial sum over tp", of a buffer.
  std::string shape(uint32_t buffer) const;
  /// The same whatever the degree: "F32, dim 1 of [rows, 32, 128] split".
  std::string logicalShape(uint32_t buffer) const;
  /// "14.00 KiB": of one row of the buffer's unit; the unit is "token", "output" or "step".
  double rowBytes(uint32_t buffer) const;
  const char *unit(uint32_t buffer) const;

private:
  std::string layout(uint32_t buffer, const std::string &over) const;
  uint32_t root(uint32_t b) const { return buffer(b).parent() < 0 ? b : static_cast<uint32_t>(buffer(b).parent()); }

  const plan::Plan &plan_;
  const plan::Program &program_;
  std::vector<Operands> operands_;
};

/// The fields of an op that are no operands: ("heads", "10").
std::vector<std::pair<std::string, std::string>> attributesOf(const plan::Instruction &instruction);

/// "a token", "an output".
std::string each(const std::string &unit);

const char *regimeName(plan::Regime regime);

} // namespace distc::explain
