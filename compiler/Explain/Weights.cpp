#include "compiler/Explain/Weights.h"

#include "compiler/Explain/Instructions.h"
#include "compiler/Explain/Names.h"

#include <algorithm>
#include <map>
#include <memory>
#include <numeric>
#include <set>

namespace distc::explain {

const char *ruleName(SplitRule rule) {
  switch (rule) {
  case SplitRule::Replicated:
    return "replicated";
  case SplitRule::Column:
    return "column-parallel";
  case SplitRule::Row:
    return "row-parallel";
  case SplitRule::Vocabulary:
    return "vocabulary-parallel";
  case SplitRule::Other:
    return "split";
  case SplitRule::Unknown:
    return "part of one rank";
  }
  return "";
}

const char *ruleReason(SplitRule rule) {
  switch (rule) {
  case SplitRule::Replicated:
    return "what it works on is whole on every rank, and it is small beside what is split";
  case SplitRule::Column:
    return "each rank makes its own outputs of the whole input; nothing is exchanged";
  case SplitRule::Row:
    return "each rank multiplies the inputs that it has made itself; a collective completes the partial sums";
  case SplitRule::Vocabulary:
    return "each rank has the rows of its own ids: a sum completes what is looked up, candidates of all ranks are "
           "gathered for sampling";
  case SplitRule::Other:
    return "the op that uses it has a rule of its own";
  case SplitRule::Unknown:
    return "one plan does not say what the other ranks have; explain or compare the folder";
  }
  return "";
}

namespace {

// Half-open ranges of indices.
using Ranges = std::vector<std::pair<uint64_t, uint64_t>>;

Ranges united(Ranges all) {
  std::sort(all.begin(), all.end());
  Ranges result;
  for (auto [begin, end] : all)
    if (!result.empty() && begin <= result.back().second)
      result.back().second = std::max(result.back().second, end);
    else
      result.emplace_back(begin, end);
  return result;
}

uint64_t lengthOf(const Ranges &ranges) {
  return std::accumulate(ranges.begin(), ranges.end(), uint64_t(0),
                         [](uint64_t sum, const auto &range) { return sum + range.second - range.first; });
}

// What a part takes along dimension `d`, of all its sources: the tensors of one weight are stacked along dimension 0.
struct Taken {
  Ranges ranges; // of the source's view, in order
  uint64_t zeros = 0;
};

Taken takenOf(const plan::WeightSource &source, uint32_t d) {
  Taken taken;
  for (const plan::Segment *segment : *source.dims()->Get(d)->segments())
    if (segment->begin() == kZeroFill)
      taken.zeros += segment->count();
    else
      taken.ranges.emplace_back(segment->begin(), segment->begin() + segment->count());
  return taken;
}

bool sameTaken(const Taken &a, const Taken &b) { return a.zeros == b.zeros && united(a.ranges) == united(b.ranges); }

// Which instruction uses each weight first, and as what.
struct Use {
  std::shared_ptr<const Flow> flow;
  size_t instruction = 0;
  bool bias = false;
};

std::map<std::string_view, Use> usesOf(const plan::Plan &plan) {
  std::map<std::string_view, Use> uses;
  for (const plan::Program *program : *plan.programs()) {
    const auto flow = std::make_shared<const Flow>(plan, *program);
    for (size_t i = 0; i < flow->size(); ++i)
      for (int64_t index : {flow->operands(i).weight, flow->operands(i).bias})
        if (index >= 0)
          uses.emplace(plan.weights()->Get(static_cast<uint32_t>(index))->name()->string_view(),
                       Use{flow, i, index == flow->operands(i).bias});
  }
  return uses;
}

// How many of the weight's last dimensions are the inputs of the product that it is in; -1: it is in none.
int inputDims(const plan::Weight &weight, const Use &use) {
  if (use.bias)
    return 0;
  for (const BufferOperand &operand : use.flow->operands(use.instruction).buffers()) {
    if (operand.write)
      continue;
    uint64_t count = 1;
    for (uint32_t d = weight.shape()->size(); d-- > 0;) {
      count *= weight.shape()->Get(d);
      if (count == use.flow->buffer(operand.buffer).row_elements())
        return static_cast<int>(weight.shape()->size() - d);
    }
  }
  return -1;
}

void name(WeightFact &fact, const plan::Plan &plan, const Use *use) {
  if (fact.axis < 0) {
    fact.rule = SplitRule::Replicated;
    return;
  }
  fact.rule = SplitRule::Other;
  fact.unit = "dim " + std::to_string(fact.axis);
  if (!use)
    return;
  const size_t axis = static_cast<size_t>(fact.axis);
  const plan::Op op = use->flow->at(use->instruction).op_type();
  const bool heads = axis + 1 < fact.shape.size() && plan.kv()->caches()->size() > 0 &&
                     fact.shape[axis + 1] == plan.kv()->caches()->Get(0)->head_dim();
  if (op == plan::Op::Embedding) {
    fact.rule = SplitRule::Vocabulary;
    fact.unit = "vocabulary";
    return;
  }
  const std::string ofHeads = use->flow->reaches(use->instruction, plan::Op::KvAppend) ? "KV heads" : "heads";
  if (op == plan::Op::RmsNorm && heads) { // its elements are those of the heads
    fact.unit = ofHeads;
    return;
  }
  const int inputs = inputDims(*fact.parts[0].weight, *use);
  if (inputs < 0 || (!use->bias && fact.shape.size() < 2)) // a norm has a weight for each element, no matrix
    return;
  if (axis + static_cast<size_t>(inputs) >= fact.shape.size()) {
    fact.rule = SplitRule::Row;
    fact.unit = heads ? "heads" : "inputs";
  } else if (use->flow->reaches(use->instruction, plan::Op::TopCandidates)) {
    fact.rule = SplitRule::Vocabulary;
    fact.unit = "vocabulary";
  } else {
    fact.rule = SplitRule::Column;
    fact.unit = heads ? ofHeads : "outputs";
  }
}

// The shape over all ranks and the split axis.
void measure(WeightFact &fact) {
  const auto &first = *fact.parts[0].weight;
  const uint32_t sources = first.sources()->size(), dims = first.sources()->Get(0)->dims()->size();
  fact.shape.assign(dims, 0);
  for (uint32_t d = 0; d < dims; ++d) {
    bool differs = false;
    uint64_t zeros = 0;
    for (uint32_t s = 0; s < sources; ++s) {
      Ranges all;
      const Taken mine = takenOf(*first.sources()->Get(s), d);
      for (const WeightPart &part : fact.parts) {
        if (part.weight->sources()->size() <= s || part.weight->sources()->Get(s)->dims()->size() <= d)
          continue;
        const Taken taken = takenOf(*part.weight->sources()->Get(s), d);
        differs |= !sameTaken(taken, mine);
        zeros += taken.zeros;
        all.insert(all.end(), taken.ranges.begin(), taken.ranges.end());
      }
      const uint64_t length = lengthOf(united(std::move(all)));
      fact.shape[d] = d == 0 ? fact.shape[d] + length : length; // stacked along dimension 0
    }
    fact.padded |= zeros > 0;
    if ((differs || zeros > 0) && fact.axis < 0)
      fact.axis = static_cast<int>(d);
  }
  for (WeightPart &part : fact.parts)
    for (uint32_t s = 0; s < part.weight->sources()->size() && fact.axis >= 0; ++s) {
      const plan::WeightSource &source = *part.weight->sources()->Get(s);
      if (source.dims()->size() <= static_cast<uint32_t>(fact.axis) || (s > 0 && fact.axis > 0))
        continue;
      const Taken taken = takenOf(source, static_cast<uint32_t>(fact.axis));
      part.held += lengthOf(taken.ranges);
      part.distinct += lengthOf(united(taken.ranges));
      part.padding += taken.zeros;
    }
}

} // namespace

std::string WeightPart::share() const {
  std::string text = std::to_string(held);
  if (distinct != held)
    text += " of " + std::to_string(distinct) + " different";
  if (padding > 0)
    text += " + " + std::to_string(padding) + " padding";
  return text;
}

std::string WeightFact::ruleText() const {
  std::string text = ruleName(rule);
  if (axis >= 0 && rule != SplitRule::Unknown)
    text += ": " + unit + " over tp " + std::to_string(degree);
  else if (rule == SplitRule::Replicated && degree > 1)
    text += " on tp " + std::to_string(degree);
  return text;
}

std::string WeightFact::sharesText() const {
  if (axis < 0 || rule == SplitRule::Unknown)
    return "whole";
  std::string text;
  for (size_t i = 0; i < parts.size();) {
    size_t end = i + 1;
    while (end < parts.size() && parts[end].share() == parts[i].share())
      ++end;
    if (i == 0 && end == parts.size())
      return parts[0].share() + " each";
    text += (text.empty() ? "" : ", ") + (end > i + 1 ? std::to_string(end - i) + " x " : "") + parts[i].share();
    i = end;
  }
  return text;
}

std::string WeightFact::shapeText() const {
  std::string text = std::string(plan::EnumNameDType(dtype)) + " [";
  for (size_t d = 0; d < shape.size(); ++d)
    text += (d ? ", " : "") + std::to_string(shape[d]);
  return text + "]";
}

std::string WeightFact::likeness() const {
  std::string text = numbered(name).pattern + "\n" + ruleText() + "\n" + shapeText() + "\n" + sharesText() + "\n" +
                     std::to_string(copies) + " " + std::to_string(axis);
  for (const std::string &tensor : tensors)
    text += "\n" + numbered(tensor).pattern;
  return text;
}

std::vector<WeightFact> weightFacts(const PlanSet &set) {
  std::vector<WeightFact> facts;
  for (const plan::Plan *lead : set.stages()) {
    const std::vector<const plan::Plan *> stage = set.stage(lead->mesh()->stage());
    std::map<std::string_view, size_t> at;
    for (const plan::Plan *plan : stage)
      for (const plan::Weight *weight : *plan->weights()) {
        const auto [place, added] = at.emplace(weight->name()->string_view(), facts.size());
        if (added) {
          WeightFact &fact = facts.emplace_back();
          fact.name = weight->name()->str();
          fact.stage = plan->mesh()->stage();
          fact.dtype = weight->dtype();
          fact.copies = weight->copies();
          fact.degree = plan->mesh()->tp();
          for (const plan::WeightSource *source : *weight->sources())
            fact.tensors.push_back(plan->tensors()->Get(source->tensor())->name()->str());
        }
        WeightPart part;
        part.rank = plan->mesh()->rank();
        part.weight = weight;
        part.plan = plan;
        facts[place->second].parts.push_back(part);
      }
    const std::map<std::string_view, Use> uses = usesOf(*lead);
    for (const auto &[name, index] : at) {
      WeightFact &fact = facts[index];
      measure(fact);
      const auto use = uses.find(name);
      explain::name(fact, *lead, use == uses.end() ? nullptr : &use->second);
      if (stage.size() < fact.degree)
        fact.rule = SplitRule::Unknown;
    }
  }
  return facts;
}

std::vector<WeightGroup> groupWeights(const std::vector<const WeightFact *> &facts) {
  std::vector<WeightGroup> groups;
  std::map<std::string, size_t> at;
  for (const WeightFact *fact : facts) {
    const auto [place, added] = at.emplace(fact->likeness(), groups.size());
    if (added)
      groups.emplace_back();
    groups[place->second].members.push_back(fact);
    groups[place->second].stages.push_back(fact->stage);
  }
  for (WeightGroup &group : groups) {
    std::vector<std::vector<uint32_t>> numbers;
    for (const WeightFact *member : group.members)
      numbers.push_back(numbered(member->name).numbers);
    group.name = joinedName(numbered(group.members[0]->name).pattern, numbers);
    for (size_t t = 0; t < group.members[0]->tensors.size(); ++t) {
      numbers.clear();
      for (const WeightFact *member : group.members)
        numbers.push_back(numbered(member->tensors[t]).numbers);
      group.tensors += (t ? " + " : "") + joinedName(numbered(group.members[0]->tensors[t]).pattern, numbers);
    }
  }
  return groups;
}

std::vector<WeightGroup> groupWeights(const std::vector<WeightFact> &facts) {
  std::vector<const WeightFact *> all;
  for (const WeightFact &fact : facts)
    all.push_back(&fact);
  return groupWeights(all);
}

std::string segmentsText(const plan::DimSlice &slice) {
  std::string text;
  const auto *segments = slice.segments();
  for (uint32_t i = 0; i < segments->size();) {
    const plan::Segment &segment = *segments->Get(i);
    uint32_t same = 1;
    while (i + same < segments->size() && segments->Get(i + same)->begin() == segment.begin() &&
           segments->Get(i + same)->count() == segment.count())
      ++same;
    text += text.empty() ? "" : ", ";
    if (segment.begin() == kZeroFill)
      text += std::to_string(segment.count()) + " zeros";
    else
      text += std::to_string(segment.begin()) + ":" + std::to_string(segment.begin() + segment.count());
    if (same > 1)
      text += " x" + std::to_string(same);
    i += same;
  }
  return text;
}

} // namespace distc::explain
