#include "compiler/Explain/Instructions.h"

#include "compiler/Explain/Names.h"
#include "runtime/schema/PlanFile.h"

#include <flatbuffers/minireflect.h>

#include <algorithm>
#include <charconv>

namespace distc::explain {

Flow::Flow(const plan::Plan &plan, const plan::Program &program) : plan_(plan), program_(program) {
  for (const plan::Instruction *instruction : *program.instructions())
    operands_.push_back(operandsOf(*instruction));
}

std::string_view Flow::label(size_t i) const {
  return program_.labels() ? program_.labels()->Get(static_cast<uint32_t>(i))->string_view() : std::string_view();
}

std::string_view Flow::valueName(uint32_t buffer) const {
  return program_.values() ? program_.values()->Get(buffer)->name()->string_view() : std::string_view();
}

std::optional<size_t> Flow::writer(uint32_t buffer, size_t i) const {
  for (bool exact : {true, false}) // else through a chunk, or the whole that it is a chunk of
    for (size_t at = i; at-- > 0;)
      for (const BufferOperand &operand : operands_[at].buffers())
        if (operand.write && (exact ? operand.buffer == buffer : root(operand.buffer) == root(buffer)))
          return at;
  return std::nullopt;
}

std::vector<size_t> Flow::readers(size_t i) const {
  std::vector<size_t> result;
  for (const BufferOperand &written : operands_[i].buffers())
    for (size_t at = i + 1; written.write && at < size(); ++at)
      for (const BufferOperand &operand : operands_[at].buffers())
        if (!operand.write && operand.buffer == written.buffer && (result.empty() || result.back() != at))
          result.push_back(at);
  return result;
}

std::optional<size_t> Flow::signaller(uint32_t event) const {
  for (size_t i = 0; i < size(); ++i)
    if (at(i).signal() >= 0 && static_cast<uint32_t>(at(i).signal()) == event)
      return i;
  return std::nullopt;
}

std::vector<size_t> Flow::waiters(uint32_t event) const {
  std::vector<size_t> result;
  for (size_t i = 0; i < size(); ++i)
    if (const auto *waits = at(i).waits(); waits && std::find(waits->begin(), waits->end(), event) != waits->end())
      result.push_back(i);
  return result;
}

bool Flow::reaches(size_t i, plan::Op op, unsigned hops) const {
  for (size_t reader : readers(i)) {
    if (at(reader).op_type() == op)
      return true;
    // A norm is of the values that it has first, whatever else it takes.
    const auto writes = [&](const BufferOperand &written) {
      return written.write && written.buffer == operands_[reader].list[0].buffer;
    };
    const bool isNorm =
        at(reader).op_type() == plan::Op::RmsNorm && std::ranges::any_of(operands_[i].buffers(), writes);
    const bool isPlain = operands_[reader].weight < 0 && operands_[reader].count <= 2;
    if (hops > 0 && (isNorm || isPlain) && reaches(reader, op, hops - 1))
      return true;
  }
  return false;
}

std::string Flow::name(size_t i) const {
  const std::string_view text = label(i);
  return plan::EnumNameOp(at(i).op_type()) + (text.empty() ? std::string() : " " + printable(text));
}

const char *Flow::unit(uint32_t b) const {
  // Of a decode step every token has its output.
  const plan::RowUnit unit = buffer(b).rows();
  return unit == plan::RowUnit::One                                                     ? "step"
         : unit == plan::RowUnit::Outputs && program_.regime() == plan::Regime::Prefill ? "output"
                                                                                        : "token";
}

double Flow::rowBytes(uint32_t b) const {
  const plan::Buffer &it = buffer(b);
  return double(it.row_elements()) * std::max<uint16_t>(1, it.times()) * double(dtypeBytes(it.dtype())) /
         std::max<uint16_t>(1, it.shards()) / std::max<uint16_t>(1, it.chunks());
}

std::string Flow::shape(uint32_t b) const {
  const plan::Buffer &it = buffer(b);
  std::string rows = it.rows() == plan::RowUnit::One ? "1" : std::string(unit(b)) + "s";
  if (it.times() > 1)
    rows = std::to_string(it.times()) + " x " + rows;
  if (it.shards() > 1)
    rows += " / " + std::to_string(it.shards());
  if (it.chunks() > 1)
    rows = "chunk " + std::to_string(it.chunk() + 1) + " of " + std::to_string(it.chunks()) + " of " + rows;
  return "[" + rows + ", " + std::to_string(it.row_elements()) + "] " + plan::EnumNameDType(it.dtype()) +
         layout(b, " over tp " + std::to_string(plan_.mesh()->tp()));
}

std::string Flow::logicalShape(uint32_t b) const { return plan::EnumNameDType(buffer(b).dtype()) + layout(b, ""); }

std::string Flow::layout(uint32_t b, const std::string &over) const {
  if (!program_.values())
    return {};
  const plan::ValueInfo &value = *program_.values()->Get(b);
  if (value.layout() == plan::LayoutKind::Partial)
    return ", partial sum" + over;
  if (value.layout() == plan::LayoutKind::Replicated)
    return ", replicated";
  if (value.dim() == 0)
    return ", rows scattered" + over;
  std::string dims;
  for (uint32_t d = 0; value.dims() && d < value.dims()->size(); ++d)
    dims += ", " + std::to_string(value.dims()->Get(d));
  return ", dim " + std::to_string(value.dim()) + " of [rows" + dims + "] split" + over;
}

namespace {

struct AttributeVisitor : flatbuffers::IterationVisitor {
  std::vector<std::pair<std::string, std::string>> fields;

  void Field(size_t, size_t, flatbuffers::ElementaryType, bool, const flatbuffers::TypeTable *, const char *name,
             const uint8_t *value) override {
    if (value && name)
      fields.emplace_back(name, "");
  }
  void UType(uint8_t x, const char *name) override { add(name ? name : std::to_string(x)); }
  void Bool(bool x) override { add(x ? "yes" : "no"); }
  void Char(int8_t x, const char *name) override { add(name ? name : std::to_string(x)); }
  void UChar(uint8_t x, const char *name) override { add(name ? name : std::to_string(x)); }
  void Short(int16_t x, const char *) override { add(std::to_string(x)); }
  void UShort(uint16_t x, const char *) override { add(std::to_string(x)); }
  void Int(int32_t x, const char *) override { add(std::to_string(x)); }
  void UInt(uint32_t x, const char *) override { add(std::to_string(x)); }
  void Long(int64_t x) override { add(std::to_string(x)); }
  void ULong(uint64_t x) override { add(std::to_string(x)); }
  void Float(float x) override { number(x); }
  void Double(double x) override { number(x); }
  void String(const flatbuffers::String *x) override { add(printable(x->string_view())); }

private:
  template <typename T> void number(T x) {
    char text[40];
    add({text, std::to_chars(text, text + sizeof text, x).ptr});
  }
  void add(const std::string &text) {
    if (!fields.empty())
      fields.back().second += (fields.back().second.empty() ? "" : ", ") + text;
  }
};

} // namespace

std::vector<std::pair<std::string, std::string>> attributesOf(const plan::Instruction &instruction) {
  const flatbuffers::TypeTable &ops = *plan::OpTypeTable();
  const auto type = static_cast<size_t>(instruction.op_type());
  if (type >= ops.num_elems || ops.type_codes[type].sequence_ref < 0)
    return {};
  AttributeVisitor visitor;
  flatbuffers::IterateObject(static_cast<const uint8_t *>(instruction.op()),
                             ops.type_refs[ops.type_codes[type].sequence_ref](), &visitor);
  const Operands operands = operandsOf(instruction);
  std::erase_if(visitor.fields, [&](const auto &field) {
    for (const BufferOperand &operand : operands.buffers())
      if (field.first == operand.name)
        return true;
    for (const char *index : {"weight", "bias", "cache", "group", "table", "peer", "sequence"})
      if (field.first == index)
        return true;
    return false;
  });
  return std::move(visitor.fields);
}

std::string each(const std::string &unit) { return (unit == "output" ? "an " : "a ") + unit; }

const char *regimeName(plan::Regime regime) { return regime == plan::Regime::Decode ? "decode" : "prefill"; }

} // namespace distc::explain
