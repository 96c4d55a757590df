// Between ranks and programs: what is computed. Each value has a fingerprint, made of its op, the op's attributes, the
// names of its weights, and the fingerprints of its operands; that of a received value is the sender's. Collectives and
// the choice of rows leave it as it is: which part of a value a rank holds is told elsewhere (Slices.cpp, Shapes.cpp).
// The ranks of a stage must compute the same values, and so must all programs, which were made from one model: decode
// and prefill are each other's witness. Weights and caches must be those of the layer that a value has come to.
#include "runtime/verify/Labels.h"

#include <flatbuffers/minireflect.h>

#include <cstring>
#include <map>
#include <memory>
#include <set>

namespace distc::verify {

namespace {

/// Not cryptographic: who wants to can make two computations look alike, and gets wrong text out of them.
uint64_t mix(uint64_t hash, uint64_t value) {
  hash = (hash ^ value) * 0x9e3779b97f4a7c15u;
  return hash ^ (hash >> 29);
}
uint64_t mix(uint64_t hash, std::string_view text) {
  for (char c : text)
    hash = mix(hash, static_cast<unsigned char>(c));
  return mix(hash, text.size());
}
template <typename T> uint64_t bitsOf(T value) {
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof value);
  return bits;
}

/// The attributes of an op: all scalars that are no operands, and not what differs between the ranks.
class AttributeHash : public flatbuffers::IterationVisitor {
public:
  uint64_t hash;

  AttributeHash(uint64_t seed, const Operands &operands) : hash(seed), operands_(operands) {}

  void Field(size_t, size_t, flatbuffers::ElementaryType, bool, const flatbuffers::TypeTable *, const char *name,
             const uint8_t *) override {
    name_ = name;
    for (const BufferOperand &operand : operands_.buffers())
      if (name_ == operand.name)
        name_ = {};
    for (const char *other : {"weight", "bias", "cache", "group", "peer", "sequence", "table",
                              // columns of the vocabulary, and how often ranks count what they sum: Slices.cpp
                              "first_row", "first_id", "first_column", "valid", "column", "elements"})
      if (name_ == other)
        name_ = {};
  }
  void StartSequence() override {}
  void EndSequence() override {}
  void UType(uint8_t value, const char *) override { add(value); }
  void Bool(bool value) override { add(value); }
  void Char(int8_t value, const char *) override { add(value); }
  void UChar(uint8_t value, const char *) override { add(value); }
  void Short(int16_t value, const char *) override { add(value); }
  void UShort(uint16_t value, const char *) override { add(value); }
  void Int(int32_t value, const char *) override { add(value); }
  void UInt(uint32_t value, const char *) override { add(value); }
  void Long(int64_t value) override { add(value); }
  void ULong(uint64_t value) override { add(value); }
  void Float(float value) override { add(value); }
  void Double(double value) override { add(value); }
  void String(const flatbuffers::String *value) override { hash = mix(hash, value->string_view()); }

private:
  template <typename T> void add(T value) {
    if (!name_.empty() && value != T()) // a zero may as well be absent
      hash = mix(mix(hash, name_), bitsOf(value));
  }

  const Operands &operands_;
  std::string_view name_;
};

struct Value {
  uint64_t fingerprint = 0;
  int64_t layer = -1; // of the last weight that went into it; -1: of none
  uint64_t table = 0; // that it, or the keys of a cache, were rotated by; 0: by none, or not known

  bool operator==(const Value &) const = default;
};

/// What a later stage hands back: the ids, which come out of a program that is walked later.
constexpr uint64_t kFromLater = 1;

/// What all ranks of a set share.
struct Shared {
  std::map<std::pair<uint32_t, uint32_t>, std::vector<Value>> messages; // by sender and receiver, in order
  std::map<uint64_t, std::pair<uint64_t, uint32_t>> tables; // by the attributes of an attention: its table, a layer
};

/// One program of one rank.
class ValueWalk {
public:
  ValueWalk(const ProgramRef &ref, Shared &shared, Reporter &reporter)
      : ref_(ref), shared_(shared), reporter_(reporter), values_(ref_), caches_(ref.plan.kv()->caches()->size()),
        used_(ref.plan.weights()->size(), false), tables_(ref.plan.rope_tables()->size(), false) {}

  void run() {
    const size_t before = reporter_.count();
    for (at_ = 0; at_ < ref_.program.instructions()->size() && reporter_.count() == before; ++at_)
      step(ref_.instruction(at_));
    for (uint32_t w = 0; w < used_.size() && reporter_.count() == before; ++w)
      if (!used_[w])
        reporter_.add("weight-unused",
                      cat(ref_.text(), ": no instruction uses weight '",
                          ref_.plan.weights()->Get(w)->name()->string_view(), "', expected that all are used"),
                      {ref_.rank()});
    for (size_t t = 0; t < tables_.size() && reporter_.count() == before; ++t)
      if (!tables_[t])
        reporter_.add("rope", cat(ref_.text(), ": no instruction uses rope table ", t, ", expected that all are used"),
                      {ref_.rank()});
  }

  /// The first instruction, of either, that computes what the other does not compute at all.
  void expectSame(const ValueWalk &other, std::string_view who) const {
    for (const auto &[a, b] : {std::pair(this, &other), std::pair(&other, this)})
      for (const auto &[fingerprint, instruction] : a->computed_)
        if (!b->known_.contains(fingerprint)) {
          reporter_.add("value-mismatch",
                        cat(a->ref_.text(instruction), ": nothing in ", b->ref_.text(),
                            " computes the same with the same weights and attributes from the same values: expected ",
                            who),
                        ranks(other), {a->ref_.instruction(instruction).id()});
          return;
        }
    if (handed_ != other.handed_)
      reporter_.add(
          "value-mismatch",
          cat(ref_.text(), " keeps, sends or hands out other values than ", other.ref_.text(), ": expected ", who),
          ranks(other));
  }

private:
  std::vector<uint32_t> ranks(const ValueWalk &other) const {
    return ref_.rank() == other.ref_.rank() ? std::vector{ref_.rank()} : std::vector{other.ref_.rank(), ref_.rank()};
  }
  void fail(const char *kind, std::string message) {
    reporter_.add(kind, cat(ref_.text(at_), ": ", message), {ref_.rank()}, {ref_.instruction(at_).id()});
  }

  Value get(uint32_t b) {
    return values_.get(
        b, [&] { fail("value-mismatch", cat("the parts of ", ref_.value(ref_.root(b)), " are not computed alike")); });
  }
  void hand(std::string_view what, uint64_t which, const Value &value) {
    handed_.insert(mix(mix(mix(0, what), which), value.fingerprint));
  }

  void step(const plan::Instruction &it) {
    const Operands operands = operandsOf(it);
    const plan::Op op = it.op_type();
    if (op == plan::Op::Send || op == plan::Op::Recv)
      return exchange(operands, op == plan::Op::Send);
    if (isCollective(op) || op == plan::Op::SelectRows)
      return values_.set(operands.list[1].buffer, get(operands.list[0].buffer), at_);
    if (op == plan::Op::EmitIds || op == plan::Op::EmitLogits)
      return hand(plan::EnumNameOp(op), 0, get(operands.list[0].buffer));
    compute(it, operands);
  }

  void exchange(const Operands &operands, bool send) {
    const plan::Mesh &mesh = *ref_.plan.mesh();
    const plan::Group &group = *ref_.plan.groups()->Get(static_cast<uint32_t>(operands.group));
    const uint32_t peer = group.ranks()->Get(static_cast<uint32_t>(operands.peer)), buffer = operands.list[0].buffer;
    const uint32_t stage = peer / mesh.tp();
    if (send) {
      const Value value = get(buffer);
      shared_.messages[{ref_.rank(), peer}].push_back(value);
      return hand("Send", stage, value);
    }
    if (stage >= mesh.stage())
      return values_.set(buffer, {kFromLater, mesh.first_layer() - int64_t(1)}, at_);
    // There are as many as are received: Communication.cpp.
    const std::vector<Value> &sent = shared_.messages[{peer, ref_.rank()}];
    values_.set(buffer, sent.at(static_cast<size_t>(operands.sequence)), at_);
  }

  void compute(const plan::Instruction &it, const Operands &operands) {
    const flatbuffers::TypeTable *ops = plan::OpTypeTable();
    const flatbuffers::TypeCode &code = ops->type_codes[static_cast<size_t>(it.op_type())];
    AttributeHash attributes(mix(0, plan::EnumNameOp(it.op_type())), operands);
    flatbuffers::IterateObject(static_cast<const uint8_t *>(it.op()), ops->type_refs[code.sequence_ref](), &attributes);
    Value value{attributes.hash};
    std::vector<uint64_t> inputs;
    uint64_t rotated = 0; // the first operand: a query, or keys
    for (const BufferOperand &operand : operands.buffers())
      if (!operand.write) {
        const Value input = get(operand.buffer);
        rotated = inputs.empty() ? input.table : rotated;
        inputs.push_back(input.fingerprint);
        value.layer = std::max(value.layer, input.layer);
      }
    if (it.op_type() == plan::Op::Add) // a + b is b + a
      std::sort(inputs.begin(), inputs.end());
    for (uint64_t input : inputs)
      value.fingerprint = mix(value.fingerprint, input);
    weight(operands.weight, value);
    weight(operands.bias, value);
    if (operands.table >= 0) {
      tables_[static_cast<size_t>(operands.table)] = true;
      value.table = table(static_cast<uint32_t>(operands.table));
      value.fingerprint = mix(value.fingerprint, value.table);
    } else if (operands.weight < 0 && inputs.size() == 1) {
      value.table = rotated; // scaled, say
    }
    bool writes = false;
    for (const BufferOperand &operand : operands.buffers())
      writes = writes || operand.write;
    if (operands.cache >= 0)
      cache(static_cast<uint32_t>(operands.cache), writes, attributes.hash, rotated, value);
    computed_.emplace_back(value.fingerprint, at_);
    known_.insert(value.fingerprint);
    for (const BufferOperand &operand : operands.buffers())
      if (operand.write)
        values_.set(operand.buffer, value, at_);
  }

  void weight(int64_t index, Value &value) {
    if (index < 0) {
      value.fingerprint = mix(value.fingerprint, 0);
      return;
    }
    used_[static_cast<size_t>(index)] = true;
    const std::string_view name = ref_.plan.weights()->Get(static_cast<uint32_t>(index))->name()->string_view();
    value.fingerprint = mix(value.fingerprint, name);
    const int64_t layer = layerOf(name), last = int64_t(ref_.plan.model()->layers()) - 1;
    if (layer < 0 ? value.layer >= 0 && value.layer != last : value.layer != layer && value.layer != layer - 1)
      fail("layer-order", cat("uses weight '", name, "' on a value that has come to layer ", value.layer, ", expected ",
                              layer < 0 ? last : layer - 1, layer < 0 ? ", the last" : " or the next"));
    value.layer = std::max(value.layer, layer);
  }

  uint64_t table(uint32_t index) const {
    const plan::RopeTable &table = *ref_.plan.rope_tables()->Get(index);
    uint64_t hash = mix(0, bitsOf(table.magnitude()));
    for (double frequency : *table.inv_freq())
      hash = mix(hash, bitsOf(frequency));
    for (uint32_t i = 0; table.over() && i < table.over()->size(); ++i)
      hash = mix(hash, table.over()->Get(i));
    return hash;
  }

  /// What is appended is what is read, chunk by chunk the same, and queries are rotated as keys are.
  void cache(uint32_t index, bool reads, uint64_t attributes, uint64_t rotated, Value &value) {
    const uint32_t layer = ref_.plan.kv()->caches()->Get(index)->layer();
    if (value.layer >= 0 && value.layer != layer)
      fail("layer-order", cat("uses the cache of layer ", layer, " on a value that has come to layer ", value.layer));
    value.fingerprint = mix(value.fingerprint, layer);
    Value &cache = caches_[index];
    if (!reads) {
      value.table = rotated;
      if (cache.fingerprint != 0 && !(cache == value))
        fail("value-mismatch", cat("the keys and values of layer ", layer, " are not computed alike for all chunks"));
      cache = value;
      return hand("KvAppend", layer, value);
    }
    value.fingerprint = mix(value.fingerprint, cache.fingerprint);
    if (rotated == 0)
      return; // by no table, or not known
    const auto &[table, of] = shared_.tables.try_emplace(attributes, rotated, layer).first->second;
    if (cache.table != 0 && rotated != cache.table)
      fail("rope", cat("the queries of layer ", layer, " are rotated by another table than its keys"));
    else if (rotated != table)
      fail("rope", cat("the queries of layer ", layer, " are rotated by another table than those of layer ", of,
                       ", whose attention has the same attributes"));
  }

  ProgramRef ref_;
  Shared &shared_;
  Reporter &reporter_;
  Labels<Value> values_;
  std::vector<Value> caches_;
  std::vector<bool> used_, tables_;                   // by weight, by rope table
  std::vector<std::pair<uint64_t, size_t>> computed_; // fingerprint, instruction
  std::set<uint64_t> known_, handed_;
  size_t at_ = 0;
};

} // namespace

void checkValues(std::span<const plan::Plan *const> plans, Reporter &reporter) {
  const uint32_t tp = plans[0]->mesh()->tp(), programs = plans[0]->programs()->size();
  std::vector<Shared> shared(programs);
  const size_t before = reporter.count();
  for (size_t first = 0; first < plans.size() && reporter.count() == before; first += tp) {
    std::vector<std::unique_ptr<ValueWalk>> witness; // by program: the first rank of the stage
    for (uint32_t i = 0; i < tp && reporter.count() == before; ++i)
      for (uint32_t p = 0; p < programs && reporter.count() == before; ++p) {
        auto walk = std::make_unique<ValueWalk>(ProgramRef{*plans[first + i], *plans[first + i]->programs()->Get(p), p},
                                                shared[p], reporter);
        walk->run();
        if (reporter.count() != before)
          return;
        if (i > 0) {
          walk->expectSame(*witness[p], "the ranks of a stage to compute the same");
          continue;
        }
        if (p > 0)
          walk->expectSame(*witness[0], "all programs to compute the same");
        witness.push_back(std::move(walk));
      }
  }
}

} // namespace distc::verify
