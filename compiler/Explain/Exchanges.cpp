#include "compiler/Explain/Exchanges.h"

#include "compiler/Explain/Instructions.h"
#include "compiler/Explain/Names.h"

#include <algorithm>

namespace distc::explain {

namespace {

struct Collected {
  ExchangeFact fact;
  std::string pattern, fromOp, fromPattern;
  std::vector<std::vector<uint32_t>> numbers, fromNumbers;
};

std::string groupText(const Flow &flow, size_t i) {
  const Operands &operands = flow.operands(i);
  const plan::Group &group = *flow.plan().groups()->Get(static_cast<uint32_t>(operands.group));
  if (operands.peer < 0)
    return printable(group.name()->string_view()) + " of " + std::to_string(group.ranks()->size());
  const uint32_t peer = group.ranks()->Get(static_cast<uint32_t>(operands.peer)), tp = flow.plan().mesh()->tp();
  const uint32_t stage = peer / tp, mine = flow.plan().mesh()->stage();
  return stage == mine + 1 ? "next stage" : stage == 0 ? "first stage" : "stage " + std::to_string(stage);
}

} // namespace

std::vector<ExchangeFact> exchangeFacts(const PlanSet &set) {
  std::vector<ExchangeFact> facts;
  for (uint32_t p = 0; p < set.first().programs()->size(); ++p) {
    std::vector<Collected> all;
    std::map<std::string, size_t> at;
    for (const plan::Plan *plan : set.stages()) {
      if (p >= plan->programs()->size())
        continue;
      const Flow flow(*plan, *plan->programs()->Get(p));
      for (size_t i = 0; i < flow.size(); ++i) {
        const Operands &operands = flow.operands(i);
        if (operands.group < 0 || flow.at(i).op_type() == plan::Op::Recv)
          continue;
        Collected one;
        ExchangeFact &fact = one.fact;
        const NumberedName label = numbered(flow.label(i));
        for (const BufferOperand &operand : operands.buffers()) {
          if (flow.rowBytes(operand.buffer) >= fact.bytes) {
            fact.bytes = flow.rowBytes(operand.buffer);
            fact.unit = flow.unit(operand.buffer);
          }
          if (const std::optional<size_t> writer = operand.write ? std::nullopt : flow.writer(operand.buffer, i)) {
            const NumberedName from = numbered(flow.label(*writer));
            one.fromOp = plan::EnumNameOp(flow.at(*writer).op_type());
            one.fromPattern = from.pattern;
            one.fromNumbers.push_back(from.numbers);
          }
        }
        fact.regime = flow.program().regime();
        fact.program = p;
        fact.op = plan::EnumNameOp(flow.at(i).op_type());
        fact.group = groupText(flow, i);
        fact.queue = flow.at(i).queue();
        one.pattern = label.pattern;
        std::string key = fact.op + "\n" + one.pattern + "\n" + fact.group + "\n" + one.fromOp + "\n" +
                          one.fromPattern + "\n" + fact.unit + " " + std::to_string(fact.bytes) + " " +
                          std::to_string(fact.queue);
        const auto [place, added] = at.emplace(std::move(key), all.size());
        if (added) {
          all.push_back(one);
          all.back().fromNumbers.clear();
        }
        Collected &same = all[place->second];
        ++same.fact.count;
        same.numbers.push_back(label.numbers);
        same.fromNumbers.insert(same.fromNumbers.end(), one.fromNumbers.begin(), one.fromNumbers.end());
      }
    }
    for (Collected &one : all) {
      one.fact.name = joinedName(one.pattern, one.numbers);
      one.fact.from = one.fromOp + " " + joinedName(one.fromPattern, one.fromNumbers);
      facts.push_back(std::move(one.fact));
    }
  }
  return facts;
}

std::map<std::pair<std::string, std::string>, std::pair<uint64_t, double>>
exchangeTotals(const std::vector<ExchangeFact> &facts, size_t program) {
  std::map<std::pair<std::string, std::string>, std::pair<uint64_t, double>> totals;
  for (const ExchangeFact &fact : facts)
    if (fact.program == program) {
      auto &[count, bytes] = totals[{fact.op, fact.unit}];
      count += fact.count;
      bytes += double(fact.count) * fact.bytes;
    }
  return totals;
}

std::string totalsText(const std::vector<ExchangeFact> &facts, size_t program) {
  std::map<std::string, uint64_t> counts;
  std::map<std::string, double> bytes;
  for (const auto &[what, total] : exchangeTotals(facts, program)) {
    counts[what.first] += total.first;
    bytes[what.second] += total.second;
  }
  std::string text, sizes;
  for (const auto &[op, count] : counts)
    text += (text.empty() ? "" : ", ") + std::to_string(count) + " " + op;
  for (const auto &[unit, size] : bytes)
    sizes += (sizes.empty() ? "" : ", ") + formatBytes(static_cast<uint64_t>(size)) + " " + each(unit);
  return text.empty() ? "none" : text + ": " + sizes;
}

} // namespace distc::explain
