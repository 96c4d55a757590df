#include "test/mutate/Plans.h"

#include "runtime/verify/Operands.h"

#include <cmath>
#include <cstring>

namespace distc::mutate {

namespace {

unsigned sizeOf(flatbuffers::ElementaryType type) {
  return static_cast<unsigned>(flatbuffers::InlineSize(type, nullptr));
}

class Collector : public flatbuffers::IterationVisitor {
public:
  std::vector<mutate::Field> fields;

  void StartSequence() override { ++depth_; }
  void EndSequence() override { path_.resize(--depth_); }
  void Field(size_t, size_t, flatbuffers::ElementaryType type, bool isVector, const flatbuffers::TypeTable *,
             const char *name, const uint8_t *value) override {
    path_.resize(depth_ - 1);
    path_.emplace_back(name);
    if (value && !isVector)
      add(type, value);
  }
  void Element(size_t i, flatbuffers::ElementaryType type, const flatbuffers::TypeTable *,
               const uint8_t *value) override {
    path_.resize(depth_);
    std::string &last = path_.back();
    last = last.substr(0, last.find('[')) + "[" + std::to_string(i) + "]";
    add(type, value);
  }
  void UType(uint8_t, const char *) override {}
  void Bool(bool) override {}
  void Char(int8_t, const char *) override {}
  void UChar(uint8_t, const char *) override {}
  void Short(int16_t, const char *) override {}
  void UShort(uint16_t, const char *) override {}
  void Int(int32_t, const char *) override {}
  void UInt(uint32_t, const char *) override {}
  void Long(int64_t) override {}
  void ULong(uint64_t) override {}
  void Float(float) override {}
  void Double(double) override {}
  void String(const flatbuffers::String *) override {}

private:
  void add(flatbuffers::ElementaryType type, const uint8_t *value) {
    if (type == flatbuffers::ET_SEQUENCE || type == flatbuffers::ET_STRING)
      return;
    std::string path;
    for (const std::string &part : path_)
      path += (path.empty() ? "" : ".") + part;
    fields.push_back({std::move(path), type, const_cast<uint8_t *>(value)});
  }

  std::vector<std::string> path_;
  size_t depth_ = 0;
};

} // namespace

Plans unpack(const Payloads &payloads) {
  Plans plans;
  for (const std::vector<uint8_t> &payload : payloads)
    plans.emplace_back(planOf(payload).UnPack());
  return plans;
}

Payloads pack(const Plans &plans) {
  Payloads payloads;
  for (const auto &plan : plans) {
    flatbuffers::FlatBufferBuilder builder(1 << 16);
    builder.ForceDefaults(true);
    builder.Finish(plan::Plan::Pack(builder, plan.get()));
    payloads.emplace_back(builder.GetBufferPointer(), builder.GetBufferPointer() + builder.GetSize());
  }
  return payloads;
}

bool isSound(const std::vector<uint8_t> &payload) {
  flatbuffers::Verifier verifier(payload.data(), payload.size(), 16, 100'000'000);
  return verifier.VerifyBuffer<plan::Plan>(nullptr);
}

std::string Field::kind() const {
  std::string out;
  bool inside = false;
  for (char c : path) {
    inside = c == '[' || (inside && c != ']');
    if (!inside && c != ']')
      out += c;
  }
  return out;
}

std::string Field::name() const {
  const std::string all = kind();
  return all.substr(all.rfind('.') + 1);
}

std::string Field::text() const {
  if (type == flatbuffers::ET_FLOAT)
    return std::to_string(flatbuffers::ReadScalar<float>(at));
  if (type == flatbuffers::ET_DOUBLE)
    return std::to_string(flatbuffers::ReadScalar<double>(at));
  if (type == flatbuffers::ET_INT)
    return std::to_string(flatbuffers::ReadScalar<int32_t>(at));
  return std::to_string(integer());
}

uint64_t Field::integer() const {
  uint64_t value = 0;
  std::memcpy(&value, at, sizeOf(type));
  return value;
}

void Field::set(uint64_t value) const { std::memcpy(at, &value, sizeOf(type)); }

std::vector<Field> fieldsOf(uint8_t *table, const flatbuffers::TypeTable *type) {
  Collector collector;
  flatbuffers::IterateObject(table, type, &collector);
  return std::move(collector.fields);
}

std::vector<Field> fieldsOfPlan(std::vector<uint8_t> &payload) {
  // Reflection follows the type of a union wherever it points.
  for (const plan::Program *program : *planOf(payload).programs())
    for (const plan::Instruction *it : *program->instructions())
      if (!isKnownOp(it->op_type()))
        return {};
  return fieldsOf(flatbuffers::GetMutableRoot<uint8_t>(payload.data()), plan::PlanTypeTable());
}

std::vector<Field> fieldsOfOp(const plan::Instruction &instruction) {
  const flatbuffers::TypeTable *ops = plan::OpTypeTable();
  const auto op = static_cast<size_t>(instruction.op_type());
  if (op == 0 || op >= ops->num_elems)
    return {};
  return fieldsOf(static_cast<uint8_t *>(const_cast<void *>(instruction.op())),
                  ops->type_refs[ops->type_codes[op].sequence_ref]());
}

void change(const Field &field, Random &random) {
  if (field.type == flatbuffers::ET_FLOAT || field.type == flatbuffers::ET_DOUBLE) {
    const bool single = field.type == flatbuffers::ET_FLOAT;
    const double old =
        single ? double(flatbuffers::ReadScalar<float>(field.at)) : flatbuffers::ReadScalar<double>(field.at);
    const double values[] = {old * 2, old / 2, -old, 0, old + 1, old * 1.001, NAN, INFINITY};
    const double value = random.pick(values);
    if (single)
      flatbuffers::WriteScalar(field.at, static_cast<float>(value));
    else
      flatbuffers::WriteScalar(field.at, value);
    return;
  }
  const uint64_t old = field.integer();
  switch (random.below(10)) {
  case 0:
  case 1:
  case 2:
    return field.set(old + 1);
  case 3:
  case 4:
  case 5:
    return field.set(old - 1);
  case 6:
    return field.set(old * 2);
  case 7:
    return field.set(old ^ (uint64_t(1) << random.below(8 * sizeOf(field.type))));
  case 8:
    return field.set(random.below(2 * old + 2));
  default:
    return field.set(random.chance(50) ? 0 : ~uint64_t(0));
  }
}

} // namespace distc::mutate
