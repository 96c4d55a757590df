// Faults in buffers, offsets, sizes, limits, and the tables of a rank.
#include "test/mutate/Faults.h"

#include <algorithm>

namespace distc::mutate {

namespace {

struct Place {
  size_t rank, program, buffer;
  std::string text;
};

/// A random buffer; where `all`, those of the same number on the other ranks of the stage.
std::vector<Place> buffers(const Plans &plans, Random &random, bool all) {
  const size_t rank = random.below(plans.size()), program = random.below(plans[rank]->programs.size());
  const plan::ProgramT &p = *plans[rank]->programs[program];
  if (p.buffers.empty())
    return {};
  const size_t buffer = random.below(p.buffers.size());
  std::string text = "rank " + std::to_string(rank) + ", program " + std::to_string(program) + ", buffer " +
                     std::to_string(buffer) + (buffer < p.values.size() ? " '" + p.values[buffer]->name + "'" : "");
  std::vector<Place> places = {{rank, program, buffer, text}};
  for (size_t r = 0; all && r < plans.size(); ++r)
    if (r != rank && plans[r]->mesh->stage == plans[rank]->mesh->stage &&
        buffer < plans[r]->programs[program]->buffers.size())
      places.push_back({r, program, buffer, text});
  return places;
}

struct BufferFields {
  uint64_t offset, bytes;
  uint32_t width;
  int32_t parent;
  uint16_t times, shards, chunk, chunks;
  plan::RowUnit rows;
  plan::DType dtype;

  explicit BufferFields(const plan::Buffer &b)
      : offset(b.offset()), bytes(b.bytes()), width(b.row_elements()), parent(b.parent()), times(b.times()),
        shards(b.shards()), chunk(b.chunk()), chunks(b.chunks()), rows(b.rows()), dtype(b.dtype()) {}
  plan::Buffer buffer() const { return {offset, bytes, width, parent, times, shards, chunk, chunks, rows, dtype}; }
};

std::string inBuffer(Plans &plans, Random &random,
                     const std::function<void(plan::ProgramT &, BufferFields &, uint64_t draw)> &seed) {
  const uint64_t draw = random.below(~uint64_t(0) >> 1);
  const auto places = buffers(plans, random, random.chance(50));
  for (const Place &place : places) {
    plan::ProgramT &p = *plans[place.rank]->programs[place.program];
    BufferFields fields(p.buffers[place.buffer]);
    seed(p, fields, draw);
    p.buffers[place.buffer] = fields.buffer();
  }
  return places.empty() ? "" : places[0].text;
}

std::string overlap(Plans &plans, Random &random) {
  return inBuffer(plans, random, [](plan::ProgramT &p, BufferFields &b, uint64_t draw) {
    const plan::Buffer &other = p.buffers[draw % p.buffers.size()];
    b.offset = other.offset() + (draw / 977 % 3 == 0 ? other.bytes() / 2 / 16 * 16 : 0);
  });
}

std::string tooSmall(Plans &plans, Random &random) {
  return inBuffer(plans, random, [](plan::ProgramT &, BufferFields &b, uint64_t draw) {
    b.bytes -= std::min<uint64_t>(b.bytes, draw % 2 ? 4 : b.bytes / 2);
  });
}

std::string shape(Plans &plans, Random &random) {
  return inBuffer(plans, random, [](plan::ProgramT &, BufferFields &b, uint64_t draw) {
    const uint64_t amount = draw / 977;
    switch (draw % 7) {
    case 0:
      b.width = b.width % 2 == 0 && amount % 2 ? b.width / 2 : b.width * 2;
      break;
    case 1:
      b.times = static_cast<uint16_t>(b.times == 1 ? 2 : 1);
      break;
    case 2:
      b.shards = static_cast<uint16_t>(b.shards == 1 ? 2 : 1);
      break;
    case 3:
      b.rows = static_cast<plan::RowUnit>((static_cast<unsigned>(b.rows) + 1 + amount % 2) % 3);
      break;
    case 4:
      b.times *= 2;
      b.width /= 2;
      break;
    default:
      b.dtype = static_cast<plan::DType>((static_cast<unsigned>(b.dtype) + 1 + amount % 3) % 4);
    }
  });
}

std::string chunk(Plans &plans, Random &random) {
  return inBuffer(plans, random, [](plan::ProgramT &p, BufferFields &b, uint64_t draw) {
    switch (draw % 4) {
    case 0:
      b.chunk = static_cast<uint16_t>((b.chunk + 1) % std::max<unsigned>(2, b.chunks));
      break;
    case 1:
      b.chunks = static_cast<uint16_t>(b.chunks == 1 ? 2 : b.chunks - 1);
      break;
    case 2:
      b.parent = b.parent < 0 ? static_cast<int32_t>(draw / 977 % p.buffers.size()) : -1;
      break;
    default:
      b.parent = static_cast<int32_t>(draw / 977 % p.buffers.size());
    }
  });
}

std::string offsets(Plans &plans, Random &random) {
  plan::PlanT &plan = *random.pick(plans);
  const std::string rank = "rank " + std::to_string(plan.mesh->rank) + ": ";
  const uint64_t far[] = {16, 256, uint64_t(1) << 40, ~uint64_t(0) - 255};
  uint64_t by = random.pick(far);
  by = random.chance(50) ? by : 0 - by;
  switch (random.below(6)) {
  case 0: {
    plan::SourceTensorT &tensor = *random.pick(plan.tensors);
    tensor.offset += by;
    return rank + "tensor '" + tensor.name + "'";
  }
  case 1: {
    plan::WeightT &weight = *random.pick(plan.weights);
    weight.offset += by;
    return weight.placement == plan::Placement::Map ? "" : rank + "weight '" + weight.name + "'";
  }
  case 2: {
    plan::KvCacheT &cache = *random.pick(plan.kv->caches);
    cache.offset += by;
    return rank + "cache of layer " + std::to_string(cache.layer);
  }
  case 3: { // a tensor where another one is
    plan::SourceTensorT &a = *random.pick(plan.tensors), &b = *random.pick(plan.tensors);
    for (auto &each : plans)
      for (auto &tensor : each->tensors)
        if (tensor->name == a.name && tensor.get() != &a)
          tensor->offset = b.offset;
    a.offset = b.offset;
    return "tensor '" + a.name + "' at '" + b.name + "'";
  }
  case 4:
    random.pick(plan.weights)->bytes += by;
    return rank + "bytes of a weight";
  default: {
    auto &buffers = random.pick(plan.programs)->buffers;
    if (buffers.empty())
      return {};
    BufferFields b(random.pick(buffers));
    const size_t i = random.below(buffers.size());
    b = BufferFields(buffers[i]);
    b.offset += by;
    buffers[i] = b.buffer();
    return rank + "buffer " + std::to_string(i);
  }
  }
}

/// A change of one field of a packed table, on one rank, its stage, or all ranks alike.
std::string inField(Payloads &payloads, Random &random, const std::function<bool(const Field &)> &wanted) {
  const size_t rank = random.below(payloads.size());
  std::vector<Field> candidates;
  for (Field &field : fieldsOfPlan(payloads[rank]))
    if (wanted(field))
      candidates.push_back(std::move(field));
  if (candidates.empty())
    return {};
  const Field &field = random.pick(candidates);
  const std::string before = field.text();
  change(field, random);
  const uint64_t value = field.integer(), scope = random.below(4); // 0, 1: alone
  if (scope >= 2)
    for (std::vector<uint8_t> &other : payloads)
      if (scope == 3 || planOf(other).mesh()->stage() == planOf(payloads[rank]).mesh()->stage())
        for (const Field &same : fieldsOfPlan(other))
          if (same.path == field.path && same.type == field.type)
            same.set(value);
  return "rank " + std::to_string(rank) +
         (scope == 2   ? " and its stage"
          : scope == 3 ? " and all others"
                       : "") +
         ": " + field.path + " " + before + " -> " + field.text();
}

FaultKind fields(std::string name, std::vector<std::string> prefixes) {
  return {std::move(name), {}, [prefixes = std::move(prefixes)](Payloads &payloads, Random &random) {
            return inField(payloads, random, [&](const Field &field) {
              const std::string kind = field.kind();
              return std::any_of(prefixes.begin(), prefixes.end(),
                                 [&](const std::string &prefix) { return kind.starts_with(prefix); });
            });
          }};
}

std::string ledgerByAByte(Payloads &payloads, Random &random) {
  const size_t rank = random.below(payloads.size());
  auto all = fieldsOfPlan(payloads[rank]);
  std::erase_if(all, [](const Field &field) { return !field.path.starts_with("ledger."); });
  const Field &field = random.pick(all);
  field.set(field.integer() + (random.chance(50) ? 1 : -1));
  return "rank " + std::to_string(rank) + ": " + field.path;
}

std::string ropeTable(Plans &plans, Random &random) {
  plan::PlanT &plan = *random.pick(plans);
  if (plan.rope_tables.empty() || plans.size() == 1) // of all ranks it would be another model
    return {};
  plan::RopeTableT &table = *random.pick(plan.rope_tables);
  auto &inverse = table.inv_freq;
  switch (random.below(4)) {
  case 0:
    random.pick(inverse) *= 1 + 1e-9;
    break;
  case 1:
    std::swap(random.pick(inverse), random.pick(inverse));
    break;
  case 2:
    table.magnitude += .5;
    break;
  default:
    for (double &value : inverse)
      value /= 4;
  }
  return "rank " + std::to_string(plan.mesh->rank);
}

/// The list has an element less, one twice, or two that have changed places.
template <typename List> std::string inList(List &list, Random &random) {
  if (list.empty())
    return {};
  const size_t i = random.below(list.size()), j = random.below(list.size());
  switch (random.below(3)) {
  case 0:
    list.erase(list.begin() + static_cast<std::ptrdiff_t>(i));
    return " " + std::to_string(i) + " dropped";
  case 1:
    if constexpr (requires { list[i].reset(); })
      list.insert(list.begin() + static_cast<std::ptrdiff_t>(j),
                  std::make_unique<typename List::value_type::element_type>(*list[i]));
    else
      list.insert(list.begin() + static_cast<std::ptrdiff_t>(j), typename List::value_type(list[i]));
    return " " + std::to_string(i) + " doubled";
  default:
    std::swap(list[i], list[j]);
    return " " + std::to_string(i) + " and " + std::to_string(j) + " swapped";
  }
}

std::string anyList(Plans &plans, Random &random) {
  const uint64_t draw = random.below(~uint64_t(0) >> 1), what = random.below(18);
  const size_t rank = random.below(plans.size());
  const bool all = random.chance(40);
  std::string where;
  for (size_t r = 0; r < plans.size(); ++r) {
    plan::PlanT &plan = *plans[r];
    if (r != rank && !(all && plan.mesh->stage == plans[rank]->mesh->stage))
      continue;
    Random same(draw); // the same on every rank
    plan::ProgramT &program = *same.pick(plan.programs);
    plan::WeightT &weight = *same.pick(plan.weights);
    plan::WeightSourceT &source = *same.pick(weight.sources);
    const auto on = [&](const char *name, auto &list) {
      const std::string done = inList(list, same);
      if (!done.empty())
        where = "rank " + std::to_string(r) + ": " + name + done;
    };
    const auto stage = [&](const char *name, auto member) {
      if (program.schedule && !program.schedule->stages.empty())
        on(name, (*same.pick(program.schedule->stages)).*member);
    };
    // clang-format off
    switch (what) {
    case 0: on("groups", plan.groups); break;
    case 1: on("group.ranks", same.pick(plan.groups)->ranks); break;
    case 2: on("files", plan.files); break;
    case 3: on("tensors", plan.tensors); break;
    case 4: on("tensor.shape", same.pick(plan.tensors)->shape); break;
    case 5: on("weights", plan.weights); break;
    case 6: on("weight.sources", weight.sources); break;
    case 7: on("weight.shape", weight.shape); break;
    case 8: on("source.view", source.view); break;
    case 9: on("source.dims", source.dims); break;
    case 10: on("segments", same.pick(source.dims)->segments); break;
    case 11: on("caches", plan.kv->caches); break;
    case 12: on("rope_tables", plan.rope_tables); break;
    case 13: on("programs", plan.programs); break;
    case 14: on("buffers", program.buffers); break;
    case 15: on("instructions", program.instructions); break;
    case 16: stage("stage.bounds", &plan::StageTilesT::bounds); break;
    default: stage("stage.waits", &plan::StageTilesT::waits); break;
    }
    // clang-format on
  }
  return where;
}

} // namespace

std::vector<FaultKind> memoryFaults() {
  return {
      {"buffers overlap", overlap, {}},
      {"buffer too small", tooSmall, {}},
      {"shape or type of a buffer", shape, {}},
      {"chunk or parent", chunk, {}},
      {"offset out of range", offsets, {}},
      fields("KV geometry", {"kv."}),
      fields("limits and micro-batches", {"limits.", "programs.max_", "programs.micro_batches", "programs.arena_bytes",
                                          "programs.regime", "programs.queues", "programs.events"}),
      fields("mesh, model, groups",
             {"mesh.", "model.vocabulary", "model.hidden", "model.layers", "model.parameters", "groups."}),
      {"ledger wrong by a byte", {}, ledgerByAByte},
      {"rope table of one rank", ropeTable, {}},
      fields("file: size or hash of the header", {"files."}),
  };
}

std::vector<FaultKind> anyFaults() {
  return {{"any scalar", {}, [](Payloads &p, Random &r) { return inField(p, r, [](const Field &) { return true; }); }},
          {"any list", anyList, {}}};
}

} // namespace distc::mutate
