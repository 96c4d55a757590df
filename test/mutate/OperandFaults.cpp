// Faults in what instructions are done with, found by reflection: an op that the schema gains has them too.
#include "runtime/verify/Operands.h"
#include "test/mutate/Faults.h"

#include <algorithm>
#include <set>

namespace distc::mutate {

namespace {

enum class Role { Buffer, Weight, Cache, Group, Table, Attribute };

Role roleOf(const plan::Instruction &it, const Field &field) {
  const Operands operands = operandsOf(it);
  for (const BufferOperand &operand : operands.buffers())
    if (field.path == operand.name)
      return Role::Buffer;
  if (field.path == "weight" || field.path == "bias")
    return Role::Weight;
  if (field.path == "cache")
    return Role::Cache;
  if (field.path == "group" || field.path == "peer" || field.path == "sequence")
    return Role::Group;
  return field.path == "table" ? Role::Table : Role::Attribute;
}

struct Site {
  size_t rank;
  uint32_t program, instruction;
};

const plan::Program &programOf(const Payloads &payloads, const Site &site) {
  return *planOf(payloads[site.rank]).programs()->Get(site.program);
}
const plan::Instruction &at(const Payloads &payloads, const Site &site) {
  return *programOf(payloads, site).instructions()->Get(site.instruction);
}
std::string text(const Payloads &payloads, const Site &site) {
  const plan::Program &p = programOf(payloads, site);
  return "rank " + std::to_string(site.rank) + ", program " + std::to_string(site.program) + ", instruction " +
         std::to_string(site.instruction) + " (" + plan::EnumNameOp(at(payloads, site).op_type()) +
         (p.labels() ? ", " + p.labels()->Get(site.instruction)->str() : "") + ")";
}

/// A random instruction with an operand of the role, and that operand's name.
std::pair<Site, std::string> find(const Payloads &payloads, Random &random, Role role) {
  for (int attempt = 0; attempt < 100; ++attempt) {
    Site site{random.below(payloads.size()), 0, 0};
    const plan::Plan &plan = planOf(payloads[site.rank]);
    site.program = static_cast<uint32_t>(random.below(plan.programs()->size()));
    const plan::Program &program = *plan.programs()->Get(site.program);
    if (program.instructions()->size() == 0)
      continue;
    site.instruction = static_cast<uint32_t>(random.below(program.instructions()->size()));
    const plan::Instruction &it = at(payloads, site);
    auto fields = fieldsOfOp(it);
    std::erase_if(fields, [&](const Field &field) { return roleOf(it, field) != role; });
    if (!fields.empty())
      return {site, random.pick(fields).path};
  }
  return {};
}

/// Where the same is computed: on the ranks of the stage, in this program or in all, by label, place among those of the
/// label, and op.
std::vector<Site> alike(const Payloads &payloads, const Site &first, bool ranks, bool programs) {
  const plan::Program &home = programOf(payloads, first);
  std::vector<Site> sites = {first};
  if (!home.labels())
    return sites;
  const auto isAlike = [&](const plan::Program &program, uint32_t i) {
    return program.labels()->Get(i)->string_view() == home.labels()->Get(first.instruction)->string_view() &&
           program.instructions()->Get(i)->op_type() == at(payloads, first).op_type();
  };
  uint32_t wanted = 0;
  for (uint32_t i = 0; i < first.instruction; ++i)
    wanted += isAlike(home, i);
  for (size_t r = 0; r < payloads.size(); ++r) {
    const plan::Plan &plan = planOf(payloads[r]);
    if (r != first.rank && (!ranks || plan.mesh()->stage() != planOf(payloads[first.rank]).mesh()->stage()))
      continue;
    for (uint32_t p = 0; p < plan.programs()->size(); ++p) {
      const plan::Program &program = *plan.programs()->Get(p);
      if ((p != first.program && !programs) || !program.labels())
        continue;
      uint32_t place = 0;
      for (uint32_t i = 0; i < program.instructions()->size(); ++i)
        if (isAlike(program, i) && place++ == wanted && !(r == first.rank && p == first.program))
          sites.push_back({r, p, i});
    }
  }
  return sites;
}

struct Change {
  Site site;
  Field field;
};
std::vector<Change> fieldsAt(const Payloads &payloads, const std::vector<Site> &sites, const std::string &name) {
  std::vector<Change> result;
  for (const Site &site : sites)
    for (Field &field : fieldsOfOp(at(payloads, site)))
      if (field.path == name)
        result.push_back({site, std::move(field)});
  return result;
}

/// Of one rank, or of its stage, in one program, or of one rank in all: never everywhere, which would be another model.
std::vector<Site> notEverywhere(const Payloads &payloads, Random &random, const Site &site) {
  const uint64_t scope = random.below(3);
  return alike(payloads, site, scope == 1, scope == 2 && planOf(payloads[0]).mesh()->tp() > 1);
}

std::string attribute(Payloads &payloads, Random &random) {
  const auto [site, name] = find(payloads, random, Role::Attribute);
  if (name.empty())
    return {};
  const auto changes = fieldsAt(payloads, notEverywhere(payloads, random, site), name);
  const std::string before = changes[0].field.text();
  change(changes[0].field, random);
  for (const Change &each : changes)
    each.field.set(changes[0].field.integer());
  return text(payloads, site) + (changes.size() > 1 ? " and alike" : "") + ": " + name + " " + before + " -> " +
         changes[0].field.text();
}

/// One attribute as the same op has it elsewhere, or next to its value: likelier to be taken than a random one.
std::string candidates(Payloads &payloads, Random &random) {
  for (int attempt = 0; attempt < 50; ++attempt) {
    const auto [site, name] = find(payloads, random, Role::Attribute);
    if (name != "first_id" && name != "valid" && name != "first_row" && name != "first_column" && name != "count")
      continue;
    const auto changes = fieldsAt(payloads, notEverywhere(payloads, random, site), name);
    const uint64_t value = changes[0].field.integer() + (random.chance(50) ? 1 : -1);
    for (const Change &each : changes)
      each.field.set(value);
    return text(payloads, site) + ": " + name + " -> " + std::to_string(value);
  }
  return {};
}

bool alikeBuffers(const plan::Buffer &a, const plan::Buffer &b) {
  return a.row_elements() == b.row_elements() && a.dtype() == b.dtype() && a.rows() == b.rows() &&
         a.times() == b.times() && a.shards() == b.shards() && a.chunks() == b.chunks();
}

std::string otherBuffer(Payloads &payloads, Random &random) {
  const auto [site, name] = find(payloads, random, Role::Buffer);
  if (name.empty())
    return {};
  const auto &buffers = *programOf(payloads, site).buffers();
  const auto changes = fieldsAt(payloads, alike(payloads, site, random.chance(50), false), name);
  const auto old = static_cast<uint32_t>(changes[0].field.integer());
  std::vector<uint32_t> others;
  for (uint32_t b = 0; b < buffers.size(); ++b)
    if (b != old && alikeBuffers(*buffers.Get(b), *buffers.Get(old)) && (b + 8 > old && b < old + 8))
      others.push_back(b);
  if (others.empty())
    return {};
  const uint32_t other = random.pick(others);
  for (const Change &each : changes)
    each.field.set(other);
  return text(payloads, site) + (changes.size() > 1 ? " and its stage" : "") + ": " + name + " " + std::to_string(old) +
         " -> " + std::to_string(other);
}

std::string swapOperands(Payloads &payloads, Random &random) {
  for (int attempt = 0; attempt < 50; ++attempt) {
    const auto [site, name] = find(payloads, random, Role::Buffer);
    if (name.empty())
      return {};
    auto fields = fieldsOfOp(at(payloads, site));
    std::erase_if(fields, [&, &site = site](const Field &field) {
      return roleOf(at(payloads, site), field) != Role::Buffer || field.path == "out";
    });
    if (fields.size() < 2)
      continue;
    for (const Site &each : notEverywhere(payloads, random, site)) {
      const auto a = fieldsAt(payloads, {each}, fields[0].path), b = fieldsAt(payloads, {each}, fields[1].path);
      const uint64_t value = a[0].field.integer();
      a[0].field.set(b[0].field.integer());
      b[0].field.set(value);
    }
    return text(payloads, site);
  }
  return {};
}

/// Another entry of the list that the operand is an index into; of weights, one of the same shape.
std::string otherIndex(Payloads &payloads, Random &random, Role role) {
  const auto [site, name] = find(payloads, random, role);
  if (name.empty())
    return {};
  const plan::Plan &plan = planOf(payloads[site.rank]);
  const auto changes = fieldsAt(payloads, alike(payloads, site, random.chance(60), random.chance(50)), name);
  const uint64_t old = changes[0].field.integer();
  std::vector<uint64_t> others;
  if (role == Role::Weight) {
    if (old >= plan.weights()->size())
      return {};
    const plan::Weight &weight = *plan.weights()->Get(static_cast<uint32_t>(old));
    for (uint32_t w = 0; w < plan.weights()->size(); ++w) {
      const plan::Weight &other = *plan.weights()->Get(w);
      if (w != old && other.bytes() == weight.bytes() && other.dtype() == weight.dtype())
        others.push_back(w);
    }
    if (name == "bias")
      others.push_back(~uint64_t(0)); // none
  } else {
    const uint64_t size = role == Role::Cache   ? plan.kv()->caches()->size()
                          : role == Role::Table ? plan.rope_tables()->size()
                                                : plan.groups()->size() + 1;
    for (uint64_t i = 0; i < size; ++i)
      if (i != old)
        others.push_back(i);
  }
  if (others.empty())
    return {};
  const uint64_t other = random.pick(others);
  for (const Change &each : changes)
    each.field.set(other);
  return text(payloads, site) + " and " + std::to_string(changes.size() - 1) + " alike: " + name + " " +
         std::to_string(old) + " -> " + std::to_string(other);
}

} // namespace

std::vector<FaultKind> operandFaults() {
  const auto index = [](Role role) {
    return [role](Payloads &payloads, Random &random) { return otherIndex(payloads, random, role); };
  };
  return {
      {"attribute of an instruction", {}, attribute},    {"candidates and ids", {}, candidates},
      {"another value as operand", {}, otherBuffer},     {"operands swapped", {}, swapOperands},
      {"wrong weight or bias", {}, index(Role::Weight)}, {"wrong cache", {}, index(Role::Cache)},
      {"wrong rope table", {}, index(Role::Table)},      {"wrong group, peer or sequence", {}, index(Role::Group)},
  };
}

} // namespace distc::mutate
