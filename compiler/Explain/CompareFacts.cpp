#include "compiler/Explain/CompareFacts.h"

#include "compiler/Explain/Exchanges.h"
#include "compiler/Explain/Instructions.h"
#include "compiler/Explain/Memory.h"
#include "compiler/Explain/Names.h"
#include "compiler/Explain/Weights.h"
#include "runtime/verify/Stages.h"

#include <cstdio>
#include <map>
#include <set>

namespace distc::explain {

static std::string exactBytes(uint64_t bytes) { return std::to_string(bytes) + " (" + formatBytes(bytes) + ")"; }

static std::string number(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%g", value);
  return text;
}

Facts modelFacts(const PlanSet &set) {
  const plan::ModelInfo &model = *set.first().model();
  Facts facts = {{"name", model.name()->str()},
                 {"family", model.family()->str()},
                 {"layers", std::to_string(model.layers())},
                 {"hidden", std::to_string(model.hidden())},
                 {"vocabulary", std::to_string(model.vocabulary())},
                 {"parameters", std::to_string(model.parameters())},
                 {"context", std::to_string(model.context())},
                 {"tokenizer", model.tokenizer() ? model.tokenizer()->str() : "none"}};
  for (const plan::RopeTable *table : *set.first().rope_tables()) {
    // Of many frequencies the ends are what differs, and how many there are.
    const auto &f = *table->inv_freq();
    facts.emplace_back(
        "rope table " + std::to_string(facts.size() - 8),
        std::to_string(f.size()) + " frequencies" +
            (f.size() == 0 ? std::string() : ", " + number(f.Get(0)) + " to " + number(f.Get(f.size() - 1))) +
            ", magnitude " + number(table->magnitude()));
  }
  return facts;
}

Facts meshFacts(const PlanSet &set) {
  Facts facts = {{"target", set.first().target()->str()},
                 {"mesh", "tp " + std::to_string(set.tp()) + " x pp " + std::to_string(set.pp())}};
  if (!set.whole())
    facts.emplace_back("rank", std::to_string(set.first().mesh()->rank()));
  std::string layers;
  for (const plan::Plan *plan : set.stages())
    layers += (layers.empty() ? "" : ", ") + std::to_string(plan->mesh()->layers());
  facts.emplace_back("layers of the stages", layers);
  std::string passes;
  if (set.first().passes())
    for (const flatbuffers::String *pass : *set.first().passes())
      passes += (passes.empty() ? "" : ", ") + pass->str();
  facts.emplace_back("producer", set.first().producer()->str());
  facts.emplace_back("passes", passes);
  return facts;
}

Facts limitFacts(const PlanSet &set) {
  const plan::Limits &limits = *set.first().limits();
  return {{"max-batch", std::to_string(limits.max_batch())},
          {"max-tokens", std::to_string(limits.max_tokens())},
          {"max-seq", std::to_string(limits.max_sequence())},
          {"kv-block", std::to_string(limits.kv_block())}};
}

Facts ledgerFacts(const PlanSet &set) {
  Facts facts;
  for (const plan::Plan *plan : set.plans) {
    const plan::Ledger &l = *plan->ledger();
    const std::string rank = "rank." + std::to_string(plan->mesh()->rank()) + ".";
    facts.emplace_back(rank + "weights",
                       exactBytes(l.weights_loaded() + l.weights_mapped()) +
                           (l.weights_mapped() ? ", " + exactBytes(l.weights_mapped()) + " mapped" : ""));
    facts.emplace_back(rank + "KV", exactBytes(l.kv()));
    facts.emplace_back(rank + "arena", exactBytes(l.arena()));
    facts.emplace_back(rank + "tables", exactBytes(l.tables()));
    facts.emplace_back(rank + "total", exactBytes(ledgerTotal(l)));
  }
  return facts;
}

Facts checkpointFacts(const PlanSet &set) {
  std::map<std::string, std::string> files, tensors;
  for (const plan::Plan *plan : set.plans) {
    for (const plan::SourceFile *file : *plan->files()) {
      const std::string path = file->path()->str();
      files.emplace("file " + path.substr(path.rfind('/') + 1),
                    std::to_string(file->size()) + " bytes, header hash " + std::to_string(file->header_hash()));
    }
    for (const plan::SourceTensor *tensor : *plan->tensors()) {
      std::string text = std::string(plan::EnumNameDType(tensor->dtype())) + " [";
      for (uint32_t d = 0; d < tensor->shape()->size(); ++d)
        text += (d ? ", " : "") + std::to_string(tensor->shape()->Get(d));
      tensors.emplace(tensor->name()->str(), text + "]");
    }
  }
  Facts facts(files.begin(), files.end());
  facts.insert(facts.end(), tensors.begin(), tensors.end());
  return facts;
}

Facts weightTexts(const PlanSet &set) {
  Facts facts;
  for (const WeightFact &fact : weightFacts(set)) {
    std::string text = fact.ruleText() + ", " + fact.shapeText() + ", " + fact.sharesText() + ", copies " +
                       std::to_string(fact.copies);
    if (!set.whole()) { // then what one rank has is all that there is
      text = plan::EnumNameDType(fact.dtype);
      for (const plan::WeightSource *source : *fact.parts[0].weight->sources())
        for (const plan::DimSlice *dim : *source->dims())
          text += " [" + segmentsText(*dim) + "]";
      text += ", copies " + std::to_string(fact.copies);
    }
    text += std::string(", ") + plan::EnumNamePlacement(fact.parts[0].weight->placement());
    for (const std::string &tensor : fact.tensors)
      text += ", from " + numbered(tensor).pattern;
    // A weight that several stages hold is told of the first.
    facts.emplace_back(fact.name, std::move(text));
  }
  return facts;
}

Facts exchangeTexts(const PlanSet &set) {
  Facts facts;
  std::map<std::string, size_t> seen;
  const std::vector<ExchangeFact> all = exchangeFacts(set);
  for (const ExchangeFact &fact : all) {
    std::string name = std::string(regimeName(fact.regime)) + " " + fact.op + " " + fact.name;
    if (const size_t times = ++seen[name]; times > 1)
      name += " #" + std::to_string(times);
    facts.emplace_back(name, std::to_string(fact.count) + " of " + formatBytes(static_cast<uint64_t>(fact.bytes)) +
                                 " " + each(fact.unit) + ", " + fact.group.substr(0, fact.group.find(" of ")) +
                                 ", of " + fact.from);
  }
  for (uint32_t p = 0; p < set.first().programs()->size(); ++p)
    facts.emplace_back(std::string(regimeName(set.first().programs()->Get(p)->regime())) + ", in all",
                       totalsText(all, p));
  return facts;
}

Listing listingOf(const PlanSet &set, uint32_t program, bool logical) {
  Listing listing;
  std::map<std::string, size_t> seen;
  for (const plan::Plan *plan : set.stages()) {
    if (program >= plan->programs()->size())
      continue;
    const Flow flow(*plan, *plan->programs()->Get(program));
    for (size_t i = 0; i < flow.size(); ++i) {
      std::string name = std::string(flow.label(i)) + " " + plan::EnumNameOp(flow.at(i).op_type());
      if (const size_t times = ++seen[name]; times > 1)
        name += " #" + std::to_string(times);
      const Operands &operands = flow.operands(i);
      std::string text;
      for (const BufferOperand &operand : operands.buffers())
        text += std::string(text.empty() ? "" : "; ") + operand.name + " " +
                numbered(flow.valueName(operand.buffer)).pattern + " " +
                (logical ? flow.logicalShape(operand.buffer) : flow.shape(operand.buffer));
      for (int64_t index : {operands.weight, operands.bias})
        if (index >= 0)
          text += "; " + numbered(plan->weights()->Get(static_cast<uint32_t>(index))->name()->string_view()).pattern;
      for (const auto &[field, value] : attributesOf(flow.at(i)))
        if (!logical || value.find_first_not_of("0123456789") != value.npos) // else a share, such as heads
          text += "; " + field + " " + value;
      if (operands.group >= 0)
        text += "; group " + plan->groups()->Get(static_cast<uint32_t>(operands.group))->name()->str();
      listing.facts.emplace_back(name, text + "; queue " + std::to_string(flow.at(i).queue()));
      listing.order.push_back(std::move(name));
    }
  }
  return listing;
}

Facts scheduleFacts(const PlanSet &set, const std::vector<uint32_t> &programs) {
  Facts facts;
  for (uint32_t p : programs) {
    const plan::Program &first = *set.first().programs()->Get(p);
    const std::string regime = std::string(regimeName(first.regime())) + " ";
    uint64_t instructions = 0, events = 0, stages = 0;
    std::set<uint32_t> chunks;
    for (const plan::Plan *plan : set.stages()) {
      const plan::Program &program = *plan->programs()->Get(p);
      instructions += program.instructions()->size();
      events += program.events();
      stages += program.schedule() ? program.schedule()->stages()->size() : 0;
      for (const plan::Buffer *buffer : *program.buffers())
        chunks.insert(buffer->chunks());
    }
    facts.emplace_back(regime + "instructions", std::to_string(instructions));
    facts.emplace_back(regime + "limits", std::to_string(first.max_tokens()) + " tokens, " +
                                              std::to_string(first.max_sequences()) + " sequences, " +
                                              std::to_string(first.max_outputs()) + " outputs");
    facts.emplace_back(regime + "queues", std::to_string(first.queues()));
    facts.emplace_back(regime + "events", std::to_string(events));
    facts.emplace_back(regime + "micro-batches", std::to_string(first.micro_batches()));
    facts.emplace_back(regime + "chunks", std::to_string(chunks.empty() ? 1 : *chunks.rbegin()));
    facts.emplace_back(regime + "arena of a micro-batch", formatBytes(first.arena_bytes()));
    if (first.schedule()) {
      char share[32];
      std::snprintf(share, sizeof share, "%.1f %%", 100 * scheduleImbalance(set.first(), first));
      facts.emplace_back(regime + "tile schedule", std::to_string(stages) + " stages, " +
                                                       std::to_string(first.schedule()->sms()) + " SMs, rings of " +
                                                       formatBytes(first.schedule()->ring_bytes()) + ", " + share +
                                                       " above an even share");
    }
  }
  return facts;
}

} // namespace distc::explain
