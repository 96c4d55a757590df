#include "compiler/Explain/Named.h"

#include "compiler/Analysis/CostModel.h"
#include "compiler/Explain/Instructions.h"
#include "compiler/Explain/Names.h"
#include "compiler/Explain/Weights.h"
#include "runtime/verify/Stages.h"

#include <algorithm>
#include <map>
#include <memory>

namespace distc::explain {

namespace {

// One instruction of one rank, and what there is to say about it.
struct Described {
  std::shared_ptr<const Flow> flow;
  size_t index = 0;
  std::vector<std::pair<std::string, std::string>> lines; // what, text
  std::string likeness; // the same for those that are alike but for numbers in their names
};

struct InstructionGroup {
  Described first;
  std::vector<uint32_t> ranks;                         // that have it
  std::vector<std::pair<std::string, uint32_t>> alike; // labels and ids of those that are alike
};

std::string instructionText(const Flow &flow, size_t i) { return std::to_string(flow.at(i).id()) + " " + flow.name(i); }

std::string workText(const Flow &flow, size_t i, uint64_t tokens) {
  const plan::Limits &limits = *flow.plan().limits();
  const bool decode = flow.program().regime() == plan::Regime::Decode;
  const uint64_t position = decode ? limits.max_sequence() - 1 : 0;
  const Runs batch = decode ? Runs{{tokens, 1, position, 1}} : Runs{{1, tokens, 0, 1}};
  const Work work = workOf(flow.plan(), flow.program(), flow.at(i), batch);
  char flops[64];
  std::snprintf(flops, sizeof flops, "%.4g FLOP", work.flops);
  std::string text;
  const auto add = [&](const char *what, double bytes) {
    if (bytes > 0)
      text += (text.empty() ? "" : ", ") + formatBytes(static_cast<uint64_t>(bytes)) + " " + what;
  };
  add("of weights", work.weightBytes);
  add(decode ? "of KV cache at the longest context" : "of KV cache", work.cacheBytes);
  add("of activations", work.activationBytes);
  if (work.flops > 0)
    text += (text.empty() ? "" : ", ") + std::string(flops);
  return text;
}

Described describe(std::shared_ptr<const Flow> flow, size_t i) {
  Described d{flow, i, {}, {}};
  const plan::Plan &plan = flow->plan();
  const plan::Instruction &it = flow->at(i);
  const Operands &operands = flow->operands(i);
  const auto add = [&](const std::string &what, const std::string &text, const std::string &like = {}) {
    d.lines.emplace_back(what, text);
    d.likeness += what + " " + like + "\n";
  };
  const NumberedName label = numbered(flow->label(i));
  d.likeness = std::string(regimeName(flow->program().regime())) + plan::EnumNameOp(it.op_type()) + label.pattern +
               std::to_string(it.queue()) + "\n";
  std::optional<size_t> before;
  for (size_t at = 0; at < i; ++at)
    if (flow->at(at).queue() == it.queue())
      before = at;
  add("queue", std::to_string(it.queue()) + (it.queue() == 0 ? ", computation" : ", communication") +
                   (before ? ", after " + instructionText(*flow, *before) : ", the first"));
  for (const BufferOperand &operand : operands.buffers()) {
    std::string text = "%" + std::to_string(operand.buffer) + " " + printable(flow->valueName(operand.buffer)) + ": " +
                       flow->shape(operand.buffer);
    if (const std::optional<size_t> writer = operand.write ? std::nullopt : flow->writer(operand.buffer, i))
      text += ", of " + instructionText(*flow, *writer);
    add(operand.write ? "writes" : std::string("reads ") + operand.name, text, flow->shape(operand.buffer));
  }
  for (auto [what, index] : {std::pair{"weight", operands.weight}, std::pair{"bias", operands.bias}})
    if (index >= 0) {
      const plan::Weight &weight = *plan.weights()->Get(static_cast<uint32_t>(index));
      std::string shape = std::string(plan::EnumNameDType(weight.dtype())) + " [";
      for (uint32_t n = 0; n < weight.shape()->size(); ++n)
        shape += (n ? ", " : "") + std::to_string(weight.shape()->Get(n));
      add(what, printable(weight.name()->string_view()) + ": " + shape + "] of it", shape);
    }
  if (operands.cache >= 0) {
    const plan::KvCache &cache = *plan.kv()->caches()->Get(static_cast<uint32_t>(operands.cache));
    const std::string shape = std::to_string(cache.heads()) + " heads of " + std::to_string(cache.head_dim()) + " " +
                              plan::EnumNameDType(cache.dtype());
    add("KV cache", "of layer " + std::to_string(cache.layer()) + ": " + shape, shape);
  }
  for (const auto &[name, value] : attributesOf(it))
    add(name, value, value);
  if (operands.group >= 0) {
    const plan::Group &group = *plan.groups()->Get(static_cast<uint32_t>(operands.group));
    std::string text = printable(group.name()->string_view());
    if (operands.peer >= 0)
      text += ", with stage " +
              std::to_string(group.ranks()->Get(static_cast<uint32_t>(operands.peer)) / plan.mesh()->tp());
    else
      text += " of ranks " + rangesText({group.ranks()->begin(), group.ranks()->end()});
    add("group", text + ", its number " + std::to_string(operands.sequence));
    double bytes = 0;
    const char *unit = "token";
    for (const BufferOperand &operand : operands.buffers())
      if (flow->rowBytes(operand.buffer) >= bytes) {
        bytes = flow->rowBytes(operand.buffer);
        unit = flow->unit(operand.buffer);
      }
    add("message", formatBytes(static_cast<uint64_t>(bytes)) + " " + each(unit));
  }
  for (uint32_t w = 0; it.waits() && w < it.waits()->size(); ++w)
    if (const std::optional<size_t> other = flow->signaller(it.waits()->Get(w)))
      add("waits for", instructionText(*flow, *other) + " (event " + std::to_string(it.waits()->Get(w)) + ")");
  if (it.signal() >= 0)
    for (size_t other : flow->waiters(static_cast<uint32_t>(it.signal())))
      add("awaited by", instructionText(*flow, other) + " (event " + std::to_string(it.signal()) + ")");
  const std::vector<size_t> readers = flow->readers(i);
  std::string read;
  for (size_t r = 0; r < readers.size() && r < 8; ++r)
    read += (r ? ", " : "") + instructionText(*flow, readers[r]);
  if (!read.empty())
    add("read by", read + (readers.size() > 8 ? ", and " + std::to_string(readers.size() - 8) + " more" : ""));
  for (uint64_t tokens : {uint64_t(1), uint64_t(flow->program().max_tokens())})
    if (const std::string work = workText(*flow, i, tokens);
        !work.empty() && (tokens == 1 || d.flow->program().max_tokens() > 1))
      add(tokens == 1 ? "one token" : std::to_string(tokens) + " tokens", work, work);
  std::string place = "stage " + std::to_string(plan.mesh()->stage()) + " of the pipeline";
  if (const plan::TileSchedule *schedule = flow->program().schedule())
    for (uint32_t s = 0; s < schedule->stages()->size(); ++s)
      if (const plan::StageTiles &stage = *schedule->stages()->Get(s);
          i >= stage.instruction() && i - stage.instruction() < stage.count())
        place += ", tile stage " + std::to_string(s) + " (" + plan::EnumNameStageKind(stage.kind()) + ") of " +
                 std::to_string(stage.count()) + " instructions from " + instructionText(*flow, stage.instruction());
  add("stage", place);
  return d;
}

struct Matches {
  std::vector<WeightFact> facts; // that `weights` points into
  std::vector<WeightGroup> weights;
  std::vector<InstructionGroup> instructions;
};

class Finder {
public:
  Finder(const PlanSet &set, const std::string &name)
      : set_(set), name_(name), glob_(isGlob(name)),
        id_(!name.empty() && name.find_first_not_of("0123456789") == name.npos) {}

  Result<Matches> find() {
    Matches matches;
    matches.facts = weightFacts(set_);
    std::vector<const WeightFact *> chosen;
    std::vector<std::string> all;
    for (const WeightFact &fact : matches.facts) {
      bool is = meant(fact.name);
      all.push_back(fact.name);
      for (const std::string &tensor : fact.tensors) {
        is |= meant(tensor);
        all.push_back(tensor);
      }
      if (is)
        chosen.push_back(&fact);
    }
    matches.weights = groupWeights(chosen);
    instructions(matches, all);
    if (!matches.weights.empty() || !matches.instructions.empty())
      return matches;
    std::string message = set_.path + ": no weight, tensor of the checkpoint, label or id of an instruction is '" +
                          printable(name_) + "'";
    const std::vector<std::string> near = nearest(name_, all, 5);
    for (size_t i = 0; i < near.size(); ++i)
      message += (i ? ", '" : "; near it are '") + printable(near[i]) + "'";
    if (near.empty())
      message += glob_ ? "" : "; give * for any text, as in '*norm*', or leave it out to see all";
    return invalidArgument(message);
  }

private:
  bool meant(std::string_view text) const { return glob_ ? globMatches(name_, text) : text == name_; }

  void instructions(Matches &matches, std::vector<std::string> &all) const {
    // Ranks whose instruction is the same in all that is said are one; so are instructions that are alike.
    constexpr size_t kAlike = SIZE_MAX; // told of with the first
    std::map<std::string, size_t> bySame, byLike;
    for (const plan::Plan *plan : set_.plans)
      for (const plan::Program *program : *plan->programs()) {
        const auto flow = std::make_shared<const Flow>(*plan, *program);
        for (size_t i = 0; i < flow->size(); ++i) {
          const std::string label(flow->label(i));
          if (plan->mesh()->tp_index() == 0)
            all.push_back(label);
          if (id_ ? std::to_string(flow->at(i).id()) != name_ : !meant(label))
            continue;
          Described described = describe(flow, i);
          std::string same = std::to_string(flow->at(i).id()) + flow->name(i);
          for (const auto &[what, text] : described.lines)
            same += "\n" + what + " " + text;
          if (const auto at = bySame.find(same); at != bySame.end()) {
            if (at->second != kAlike)
              matches.instructions[at->second].ranks.push_back(plan->mesh()->rank());
            continue;
          }
          // Alike is told of one rank: the first that has them.
          const std::string like = std::to_string(plan->mesh()->tp_index()) + described.likeness;
          const auto [place, added] = byLike.emplace(like, matches.instructions.size());
          if (added) {
            matches.instructions.push_back({std::move(described), {plan->mesh()->rank()}, {}});
            bySame.emplace(std::move(same), place->second);
          } else {
            bySame.emplace(std::move(same), kAlike);
            matches.instructions[place->second].alike.emplace_back(label, flow->at(i).id());
          }
        }
      }
  }

  const PlanSet &set_;
  const std::string &name_;
  const bool glob_, id_;
};

std::string weightText(const PlanSet &set, const WeightGroup &group) {
  const WeightFact &fact = *group.members[0];
  const plan::Weight &weight = *fact.parts[0].weight;
  std::string text = "weight " + printable(fact.name) + ": " + fact.shapeText() + ", " + fact.ruleText() + "\n";
  if (group.members.size() > 1)
    text += "  alike       " + group.name + "\n";
  text += std::string("  why         ") + ruleReason(fact.rule) + "\n";
  if (fact.axis >= 0)
    text += "  axis        " + std::to_string(fact.axis) + ", " + fact.unit + ": " + fact.sharesText() + "\n";
  text += "  copies      " + std::to_string(fact.copies) +
          (fact.copies == 1 ? ": each element is on one rank of the stage" : " of each element in the stage") + "\n";
  for (const plan::WeightSource *source : *weight.sources()) {
    const plan::SourceTensor &tensor = *fact.parts[0].plan->tensors()->Get(source->tensor());
    std::string shape;
    for (uint32_t d = 0; d < tensor.shape()->size(); ++d)
      shape += (d ? ", " : "") + std::to_string(tensor.shape()->Get(d));
    std::string view;
    for (uint32_t d = 0; d < source->view()->size(); ++d)
      view += (d ? ", " : "") + std::to_string(source->view()->Get(d));
    text +=
        "  from        " + printable(tensor.name()->string_view()) + " " + plan::EnumNameDType(tensor.dtype()) + " [" +
        shape + "]" + (view == shape ? "" : " as [" + view + "]") + (source->transposed() > 0 ? ", transposed" : "") +
        (tensor.file() < 0
             ? std::string(", no file")
             : ", " +
                   printable(
                       fact.parts[0].plan->files()->Get(static_cast<uint32_t>(tensor.file()))->path()->string_view())) +
        "\n";
  }
  TextTable table("lllrl", {"ranks", "shape", "of the source", "bytes", "where"});
  std::vector<uint32_t> ranks;
  std::vector<std::string> row;
  const auto flush = [&] {
    if (!ranks.empty()) {
      row[0] = rangesText(ranks);
      table.row(row);
      ranks.clear();
    }
  };
  for (const WeightPart &part : fact.parts) {
    std::string shape, slices;
    for (uint32_t d = 0; d < part.weight->shape()->size(); ++d)
      shape += (d ? ", " : "") + std::to_string(part.weight->shape()->Get(d));
    for (const plan::WeightSource *source : *part.weight->sources()) {
      std::string dims;
      for (uint32_t d = 0; d < source->dims()->size(); ++d)
        dims += (d ? "] [" : "[") + segmentsText(*source->dims()->Get(d));
      slices += (slices.empty() ? "" : " + ") + dims + "]";
    }
    const std::string where = part.weight->placement() == plan::Placement::Map
                                  ? std::string("mapped file")
                                  : "at " + std::to_string(part.weight->offset()) + " of weight memory";
    std::vector<std::string> next = {"", "[" + shape + "]", slices, formatBytes(part.weight->bytes()), where};
    if (next != row)
      flush();
    row = std::move(next);
    ranks.push_back(part.rank);
  }
  flush();
  return text + table.text("  ");
}

std::string groupName(const InstructionGroup &group) {
  std::vector<std::string> patterns;
  std::vector<std::vector<uint32_t>> numbers;
  for (const auto &[label, id] : group.alike)
    numbers.push_back(numbered(label).numbers);
  const std::string label(group.first.flow->label(group.first.index));
  return joinedName(numbered(label).pattern, numbers);
}

Json instructionJson(const InstructionGroup &group) {
  const Flow &flow = *group.first.flow;
  const plan::Instruction &it = flow.at(group.first.index);
  Json facts = Json::array(), alike = Json::array();
  for (const auto &[what, text] : group.first.lines)
    facts.push_back({{"what", what}, {"text", text}});
  for (const auto &[label, id] : group.alike)
    alike.push_back({{"id", id}, {"label", label}});
  return {{"id", it.id()},
          {"op", plan::EnumNameOp(it.op_type())},
          {"label", std::string(flow.label(group.first.index))},
          {"regime", regimeName(flow.program().regime())},
          {"ranks", group.ranks},
          {"facts", facts},
          {"alike", alike}};
}

} // namespace

Result<std::string> namedText(const PlanSet &set, const std::string &name) {
  DISTC_ASSIGN(const Matches matches, Finder(set, name).find());
  std::string text;
  for (const WeightGroup &group : matches.weights)
    text += (text.empty() ? "" : "\n") + weightText(set, group);
  for (const InstructionGroup &group : matches.instructions) {
    const Flow &flow = *group.first.flow;
    text += (text.empty() ? "" : "\n") + std::string("instruction ") + instructionText(flow, group.first.index) + ", " +
            regimeName(flow.program().regime()) + ", rank" + (group.ranks.size() > 1 ? "s " : " ") +
            rangesText(group.ranks) + "\n";
    for (const auto &[what, line] : group.first.lines)
      text += "  " + what + std::string(what.size() < 12 ? 12 - what.size() : 1, ' ') + line + "\n";
    if (!group.alike.empty())
      text += "  alike       " + std::to_string(group.alike.size()) + ": " + groupName(group) + "\n";
  }
  return text;
}

Result<std::string> namedJson(const PlanSet &set, const std::string &name) {
  DISTC_ASSIGN(const Matches matches, Finder(set, name).find());
  Json json = {{"weights", Json::array()}, {"instructions", Json::array()}};
  for (const WeightGroup &group : matches.weights) {
    const WeightFact &fact = *group.members[0];
    Json parts = Json::array();
    for (const WeightPart &part : fact.parts) {
      Json sources = Json::array();
      for (const plan::WeightSource *source : *part.weight->sources()) {
        Json dims = Json::array();
        for (const plan::DimSlice *dim : *source->dims())
          dims.push_back(segmentsText(*dim));
        sources.push_back({{"tensor", part.plan->tensors()->Get(source->tensor())->name()->str()}, {"segments", dims}});
      }
      parts.push_back({{"rank", part.rank},
                       {"shape", std::vector<uint64_t>(part.weight->shape()->begin(), part.weight->shape()->end())},
                       {"bytes", part.weight->bytes()},
                       {"placement", plan::EnumNamePlacement(part.weight->placement())},
                       {"offset", part.weight->offset()},
                       {"padding", part.padding},
                       {"sources", sources}});
    }
    Json alike = Json::array();
    for (const WeightFact *member : group.members)
      alike.push_back(member->name);
    json["weights"].push_back({{"name", fact.name},
                               {"alike", alike},
                               {"rule", ruleName(fact.rule)},
                               {"why", ruleReason(fact.rule)},
                               {"axis", fact.axis < 0 ? Json() : Json(fact.axis)},
                               {"unit", fact.unit},
                               {"copies", fact.copies},
                               {"shape", fact.shape},
                               {"parts", parts}});
  }
  for (const InstructionGroup &group : matches.instructions)
    json["instructions"].push_back(instructionJson(group));
  return jsonText(json);
}

} // namespace distc::explain
