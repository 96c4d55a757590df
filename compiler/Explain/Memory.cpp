#include "compiler/Explain/Memory.h"

#include "compiler/Explain/Names.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <map>

namespace distc::explain {

uint64_t ledgerTotal(const plan::Ledger &ledger) {
  return ledger.weights_loaded() + ledger.weights_mapped() + ledger.kv() + ledger.arena() + ledger.tables();
}

double kvBytesPerToken(const plan::Plan &plan) {
  const double tokens = double(plan.kv()->blocks()) * plan.kv()->block_tokens();
  return tokens > 0 ? double(plan.ledger()->kv()) / tokens : 0;
}

std::vector<LedgerGroup> ledgerGroups(const PlanSet &set) {
  std::vector<LedgerGroup> groups;
  std::map<std::vector<uint64_t>, size_t> at;
  std::vector<std::vector<uint32_t>> layers;
  for (const plan::Plan *plan : set.plans) {
    const plan::Ledger &l = *plan->ledger();
    const plan::Mesh &mesh = *plan->mesh();
    const auto [place, added] = at.emplace(
        std::vector<uint64_t>{mesh.layers(), l.weights_loaded(), l.weights_mapped(), l.kv(), l.arena(), l.tables()},
        groups.size());
    if (added) {
      groups.emplace_back().plan = plan;
      layers.emplace_back();
    }
    groups[place->second].ranks.push_back(mesh.rank());
    groups[place->second].stages.push_back(mesh.stage());
    for (uint32_t i = 0; i < mesh.layers(); ++i)
      layers[place->second].push_back(mesh.first_layer() + i);
  }
  for (size_t g = 0; g < groups.size(); ++g)
    groups[g].layers = rangesText(std::move(layers[g]));
  return groups;
}

Result<uint64_t> parseMemory(const std::string &text, const std::string &flag) {
  constexpr std::pair<const char *, double> kUnits[] = {
      {"", 1},      {"B", 1},        {"KB", 1e3},     {"MB", 1e6},     {"GB", 1e9},
      {"TB", 1e12}, {"KiB", 0x1p10}, {"MiB", 0x1p20}, {"GiB", 0x1p30}, {"TiB", 0x1p40}};
  const size_t digits = std::min(text.find_first_not_of("0123456789."), text.size());
  char *end = nullptr;
  const double number = std::strtod(text.c_str(), &end);
  std::string unit = text.substr(digits);
  unit.erase(0, std::min(unit.find_first_not_of(' '), unit.size()));
  for (auto [name, factor] : kUnits)
    if (digits > 0 && end == text.c_str() + digits && unit == name && number * factor >= 1 && number * factor < 0x1p60)
      return static_cast<uint64_t>(number * factor);
  return invalidArgument(flag + " '" + printable(text) +
                         "': expected bytes, with or without a unit from KB to TB or KiB to TiB, such as 80GiB");
}

ContextFit longestContext(const PlanSet &set, uint64_t memory, uint64_t batch) {
  const bool shared = set.first().target()->string_view() == "cpu";
  // Each rank by itself, or all together: what is needed whatever the context, and for each token of it.
  struct Need {
    double fixed = 0, token = 0;
    uint32_t rank = 0;
  };
  std::vector<Need> needs;
  for (const plan::Plan *plan : set.plans) {
    const plan::Ledger &l = *plan->ledger();
    if (needs.empty() || !shared)
      needs.push_back({0, 0, plan->mesh()->rank()});
    needs.back().fixed += double(l.weights_loaded()) + double(l.weights_mapped()) + double(l.arena());
    needs.back().token +=
        double(batch) * kvBytesPerToken(*plan) + double(l.tables()) / std::max(1u, plan->limits()->max_sequence());
  }
  ContextFit fit;
  double least = -1;
  const double block = std::max(1u, set.first().kv()->block_tokens());
  for (const Need &need : needs) {
    const double room = double(memory) - need.fixed;
    const double blocks = room <= 0 || need.token <= 0 ? 0 : std::floor(room / (need.token * block));
    if (least >= 0 && blocks >= least)
      continue;
    least = blocks;
    fit = {static_cast<uint64_t>(blocks * block), static_cast<uint64_t>(std::max(0.0, room)), need.rank, room > 0};
  }
  return fit;
}

} // namespace distc::explain
