#include "compiler/Explain/Explain.h"

#include "compiler/Explain/Exchanges.h"
#include "compiler/Explain/Instructions.h"
#include "compiler/Explain/Memory.h"
#include "compiler/Explain/Named.h"
#include "compiler/Explain/Names.h"
#include "compiler/Explain/Weights.h"

#include <algorithm>
#include <cstdio>
#include <set>

namespace distc::explain {

namespace {

std::string headText(const PlanSet &set) {
  const plan::ModelInfo &model = *set.first().model();
  const plan::Limits &limits = *set.first().limits();
  char parameters[32];
  std::snprintf(parameters, sizeof parameters, "%.2f", double(model.parameters()) / 1e9);
  std::string text = printable(set.path) + ": " + printable(model.name()->string_view()) + " (" +
                     printable(model.family()->string_view()) + "), " + std::to_string(model.layers()) + " layers, " +
                     parameters + " B parameters, tp " + std::to_string(set.tp()) + " x pp " +
                     std::to_string(set.pp()) + ", target " + printable(set.first().target()->string_view()) + "\n";
  text += "batch " + std::to_string(limits.max_batch()) + ", " + std::to_string(limits.max_tokens()) +
          " tokens a step, sequences of " + std::to_string(limits.max_sequence()) + " tokens, KV blocks of " +
          std::to_string(limits.kv_block()) + "\n";
  for (uint32_t p = 0; p < set.first().programs()->size(); ++p) {
    const plan::Program &first = *set.first().programs()->Get(p);
    uint64_t least = UINT64_MAX, most = 0;
    for (const plan::Plan *plan : set.stages()) {
      least = std::min<uint64_t>(least, plan->programs()->Get(p)->instructions()->size());
      most = std::max<uint64_t>(most, plan->programs()->Get(p)->instructions()->size());
    }
    text += std::string(regimeName(first.regime())) + ": " + std::to_string(least) +
            (most > least ? " to " + std::to_string(most) : "") + " instructions a rank, up to " +
            std::to_string(first.max_tokens()) + " tokens";
    if (first.micro_batches() > 1)
      text += " in each of " + std::to_string(first.micro_batches()) + " micro-batches";
    if (first.schedule())
      text += ", " + std::to_string(first.schedule()->stages()->size()) + " tile stages on " +
              std::to_string(first.schedule()->sms()) + " SMs";
    text += "\n";
  }
  return text;
}

std::string weightsText(const PlanSet &set, const std::vector<WeightGroup> &groups) {
  const bool staged = set.pp() > 1;
  std::vector<std::string> heads = {"weight", "rule", "whole", "axis", "a rank has", "copies"};
  if (staged)
    heads.emplace_back("stages");
  heads.emplace_back("from");
  TextTable table(staged ? "lllrlrll" : "lllrlrl", heads);
  std::vector<SplitRule> rules;
  bool padded = false, repeated = false;
  for (const WeightGroup &group : groups) {
    const WeightFact &fact = *group.members[0];
    std::vector<std::string> row = {group.name,        fact.ruleText(),
                                    fact.shapeText(),  fact.axis < 0 ? "-" : std::to_string(fact.axis),
                                    fact.sharesText(), std::to_string(fact.copies)};
    if (staged)
      row.push_back(rangesText(group.stages));
    row.push_back(group.tensors);
    table.row(std::move(row));
    if (std::find(rules.begin(), rules.end(), fact.rule) == rules.end())
      rules.push_back(fact.rule);
    padded |= fact.padded;
    repeated |= fact.copies > 1 && fact.axis >= 0;
  }
  std::string text = "\nweights\n" + table.text("  ");
  for (SplitRule rule : rules)
    text += std::string("  ") + ruleName(rule) + ": " + ruleReason(rule) + "\n";
  if (repeated)
    text += "  copies: each KV head is held as often as there are ranks, or groups of query heads, that read it\n";
  if (padded)
    text += "  padding: zeros that make the shares alike; no file holds them\n";
  return text;
}

std::string exchangesText(const PlanSet &set, const std::vector<ExchangeFact> &facts) {
  TextTable table("lllllrrl", {"program", "exchange", "op", "of what", "group", "queue", "times", "a message"});
  for (const ExchangeFact &fact : facts)
    table.row({regimeName(fact.regime), fact.name, fact.op, fact.from, fact.group, std::to_string(fact.queue),
               std::to_string(fact.count), formatBytes(static_cast<uint64_t>(fact.bytes)) + " " + each(fact.unit)});
  std::string text = "\nexchanges\n" + (table.empty() ? std::string("  none: one rank\n") : table.text("  "));
  for (uint32_t p = 0; !table.empty() && p < set.first().programs()->size(); ++p)
    text += std::string("  ") + regimeName(set.first().programs()->Get(p)->regime()) +
            ", of all stages: " + totalsText(facts, p) + "\n";
  return text;
}

std::string memoryText(const PlanSet &set) {
  TextTable table("lllrrrrrrr", {"ranks", "stages", "layers", "weights", "of it mapped", "KV", "arena", "tables",
                                 "total", "KV of a token"});
  for (const LedgerGroup &group : ledgerGroups(set)) {
    const plan::Ledger &l = *group.plan->ledger();
    table.row({rangesText(group.ranks), rangesText(group.stages), group.layers,
               formatBytes(l.weights_loaded() + l.weights_mapped()), formatBytes(l.weights_mapped()),
               formatBytes(l.kv()), formatBytes(l.arena()), formatBytes(l.tables()), formatBytes(ledgerTotal(l)),
               formatBytes(static_cast<uint64_t>(kvBytesPerToken(*group.plan)))});
  }
  return "\nmemory of a rank\n" + table.text("  ");
}

std::string contextText(const PlanSet &set, uint64_t memory, uint64_t batch) {
  const ContextFit fit = longestContext(set, memory, batch);
  const bool shared = set.first().target()->string_view() == "cpu";
  const plan::Limits &limits = *set.first().limits();
  std::string text = "\ncontext\n  " + formatBytes(memory) + (shared ? " for all ranks" : " a device") + ", batch " +
                     std::to_string(batch) + ": ";
  if (!fit.fixedFits)
    return text + "weights and activations" + (shared ? "" : " of rank " + std::to_string(fit.rank)) +
           " do not fit, whatever the context\n";
  text += std::to_string(fit.tokens) + " tokens of each sequence fit";
  text += shared ? "" : ", rank " + std::to_string(fit.rank) + " is the tightest";
  if (batch > limits.max_batch())
    text += "; the plans take " + std::to_string(limits.max_batch()) +
            " sequences (--max-batch), and more need a "
            "larger arena";
  if (const uint32_t context = set.first().model()->context(); context > 0 && fit.tokens > context)
    text += "; the model was made for " + std::to_string(context);
  if (fit.tokens != limits.max_sequence())
    text += "; the plans are for " + std::to_string(limits.max_sequence()) + " (--max-seq)";
  return text + "\n";
}

Json weightJson(const WeightGroup &group) {
  const WeightFact &fact = *group.members[0];
  Json members = Json::array(), parts = Json::array();
  for (const WeightFact *member : group.members)
    members.push_back(member->name);
  for (const WeightPart &part : fact.parts)
    parts.push_back({{"tp_index", part.plan->mesh()->tp_index()},
                     {"held", part.held},
                     {"different", part.distinct},
                     {"padding", part.padding},
                     {"bytes", part.weight->bytes()}});
  return {{"name", group.name},
          {"weights", members},
          {"stages", std::set<uint32_t>(group.stages.begin(), group.stages.end())},
          {"rule", ruleName(fact.rule)},
          {"why", ruleReason(fact.rule)},
          {"axis", fact.axis < 0 ? Json() : Json(fact.axis)},
          {"unit", fact.unit},
          {"tp", fact.degree},
          {"copies", fact.copies},
          {"dtype", plan::EnumNameDType(fact.dtype)},
          {"shape", fact.shape},
          {"tensors", group.tensors},
          {"parts", parts}};
}

Json overviewJson(const PlanSet &set, const ExplainOptions &options) {
  const plan::ModelInfo &model = *set.first().model();
  const plan::Limits &limits = *set.first().limits();
  Json json = {{"model", model.name()->str()},
               {"family", model.family()->str()},
               {"layers", model.layers()},
               {"parameters", model.parameters()},
               {"target", set.first().target()->str()},
               {"tp", set.tp()},
               {"pp", set.pp()},
               {"limits",
                {{"max_batch", limits.max_batch()},
                 {"max_tokens", limits.max_tokens()},
                 {"max_sequence", limits.max_sequence()},
                 {"kv_block", limits.kv_block()}}}};
  json["weights"] = Json::array();
  const std::vector<WeightFact> facts = weightFacts(set);
  for (const WeightGroup &group : groupWeights(facts))
    json["weights"].push_back(weightJson(group));
  json["exchanges"] = Json::array();
  for (const ExchangeFact &fact : exchangeFacts(set))
    json["exchanges"].push_back({{"program", fact.program},
                                 {"regime", regimeName(fact.regime)},
                                 {"name", fact.name},
                                 {"op", fact.op},
                                 {"from", fact.from},
                                 {"group", fact.group},
                                 {"queue", fact.queue},
                                 {"count", fact.count},
                                 {"bytes", fact.bytes},
                                 {"per", fact.unit}});
  json["ranks"] = Json::array();
  for (const plan::Plan *plan : set.plans) {
    const plan::Ledger &l = *plan->ledger();
    json["ranks"].push_back({{"rank", plan->mesh()->rank()},
                             {"stage", plan->mesh()->stage()},
                             {"tp_index", plan->mesh()->tp_index()},
                             {"first_layer", plan->mesh()->first_layer()},
                             {"layers", plan->mesh()->layers()},
                             {"weights_loaded", l.weights_loaded()},
                             {"weights_mapped", l.weights_mapped()},
                             {"kv", l.kv()},
                             {"arena", l.arena()},
                             {"tables", l.tables()},
                             {"total", ledgerTotal(l)},
                             {"kv_per_token", kvBytesPerToken(*plan)}});
  }
  if (options.memory) {
    const ContextFit fit = longestContext(set, *options.memory, options.batch);
    json["context"] = {{"memory", *options.memory},
                       {"batch", options.batch},
                       {"tokens", fit.tokens},
                       {"tightest_rank", fit.rank},
                       {"fits", fit.fixedFits}};
  }
  return json;
}

} // namespace

std::string jsonText(const Json &json) { return json.dump(1, ' ', true, Json::error_handler_t::replace) + "\n"; }

Result<std::string> explainText(const PlanSet &set, const ExplainOptions &options) {
  if (!options.name.empty())
    return namedText(set, options.name);
  const std::vector<WeightFact> facts = weightFacts(set);
  std::string text =
      headText(set) + weightsText(set, groupWeights(facts)) + exchangesText(set, exchangeFacts(set)) + memoryText(set);
  if (options.memory)
    text += contextText(set, *options.memory, options.batch);
  return text;
}

Result<std::string> explainJson(const PlanSet &set, const ExplainOptions &options) {
  if (!options.name.empty())
    return namedJson(set, options.name);
  return jsonText(overviewJson(set, options));
}

} // namespace distc::explain
