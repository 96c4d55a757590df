#include "runtime/backends/cuda/NcclChannels.h"

#include "runtime/backends/cuda/Device.h"
#include "runtime/schema/PlanFile.h"

#include <algorithm>
#include <set>

namespace distc {

namespace {

std::vector<uint32_t> ranksOf(const plan::Plan &plan, uint32_t group) {
  const auto *ranks = plan.groups()->Get(group)->ranks();
  return {ranks->begin(), ranks->end()};
}

} // namespace

std::vector<Channel> channelsOf(std::span<const plan::Plan *const> plans) {
  std::set<Channel> channels;
  for (const plan::Plan *plan : plans) {
    auto add = [&](uint32_t group) {
      const Channel channel{plan->groups()->Get(group)->name()->str(), ranksOf(*plan, group)};
      if (channel.ranks.size() > 1)
        channels.insert(channel);
    };
    for (const plan::Program *program : *plan->programs())
      for (const plan::Instruction *instruction : *program->instructions()) {
        if (const auto *o = instruction->op_as_AllReduce())
          add(o->group());
        else if (const auto *o = instruction->op_as_AllGather())
          add(o->group());
        else if (const auto *o = instruction->op_as_ReduceScatter())
          add(o->group());
        else if (const auto *o = instruction->op_as_Send())
          channels.insert({"", {plan->mesh()->rank(), ranksOf(*plan, o->group())[o->peer()]}});
      }
  }
  return {channels.begin(), channels.end()};
}

ChannelMemory channelMemory(const plan::Plan &plan) {
  ChannelMemory memory;
  for (const plan::Program *program : *plan.programs()) {
    std::map<uint32_t, size_t> sent;
    auto members = [&](uint32_t group) -> size_t { return plan.groups()->Get(group)->ranks()->size(); };
    auto bytes = [&](uint32_t buffer) -> size_t { return program->buffers()->Get(buffer)->bytes(); };
    auto allReduces = [&](size_t members, uint32_t input) {
      const size_t size = dtypeBytes(program->buffers()->Get(input)->dtype());
      memory.parts = std::max({memory.parts, std::min(members * bytes(input), kShortBytes),
                               members * shareOf(bytes(input) / size, members) * size});
    };
    for (const plan::Instruction *instruction : *program->instructions())
      if (const auto *o = instruction->op_as_AllReduce())
        allReduces(members(o->group()), o->input());
      else if (const auto *o = instruction->op_as_ReduceScatter())
        memory.parts = std::max(memory.parts, members(o->group()) * bytes(o->out()));
      else if (const auto *o = instruction->op_as_Send())
        sent[ranksOf(plan, o->group())[o->peer()]] += cuda::alignedBytes(bytes(o->input()));
    for (const auto &[peer, bytes] : sent)
      memory.copies[peer] = std::max(memory.copies[peer], bytes * program->micro_batches());
  }
  return memory;
}

} // namespace distc
