// A plan set that faults are seeded into: its tables as objects, then its scalars where they lie in the packed bytes.
#pragma once

#include "runtime/schema/PlanFile.h"

#include <flatbuffers/minireflect.h>

#include <functional>
#include <memory>
#include <random>

namespace distc::mutate {

class Random {
public:
  explicit Random(uint64_t seed) : engine_(seed) {}
  /// 0 … n-1; 0 where n is 0.
  uint64_t below(uint64_t n) { return n == 0 ? 0 : engine_() % n; }
  bool chance(unsigned percent) { return below(100) < percent; }
  template <typename List> auto &pick(List &list) { return list[below(std::size(list))]; }

private:
  std::mt19937_64 engine_;
};

using Plans = std::vector<std::unique_ptr<plan::PlanT>>;
using Payloads = std::vector<std::vector<uint8_t>>;

Plans unpack(const Payloads &payloads);
/// Every scalar is written, also one that has its default: what is not there could not be changed in place.
Payloads pack(const Plans &plans);
inline const plan::Plan &planOf(const std::vector<uint8_t> &payload) {
  return *flatbuffers::GetRoot<plan::Plan>(payload.data());
}
/// Does the payload hold together as PlanFile::open asks for it?
bool isSound(const std::vector<uint8_t> &payload);

/// A scalar of a packed plan.
struct Field {
  std::string path; // "programs[0].instructions[3].op.weight"
  flatbuffers::ElementaryType type;
  uint8_t *at;

  std::string kind() const; // the path without indices
  std::string name() const; // the last part
  std::string text() const;
  uint64_t integer() const; // of a float, its bits
  void set(uint64_t value) const;
};

/// All scalars of a table, by reflection: fields that the schema gains are among them.
std::vector<Field> fieldsOf(uint8_t *table, const flatbuffers::TypeTable *type);
std::vector<Field> fieldsOfPlan(std::vector<uint8_t> &payload);
/// Those of the operands of one instruction.
std::vector<Field> fieldsOfOp(const plan::Instruction &instruction);

/// Another value: near, far, a power of two away, or one that is out of any range.
void change(const Field &field, Random &random);

} // namespace distc::mutate
