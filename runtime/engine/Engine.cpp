#include "distc/Engine.h"

#include "runtime/engine/BlockAllocator.h"
#include "runtime/engine/StopFilter.h"
#include "runtime/plan/ExpertUse.h"

#include <algorithm>
#include <chrono>

namespace distc {

namespace {

struct Sequence {
  size_t request = 0;
  std::vector<int32_t> tokens; // prompt and what was generated
  size_t cached = 0;           // tokens whose keys and values are in the cache
  uint32_t produced = 0;
  std::vector<int32_t> blocks;
  int32_t length = 0; // tokens that it may grow to
  std::unique_ptr<TextDecoder> decoder;
  StopFilter filter;
  size_t scheduled = 0; // tokens in the step under way
  bool samples = false; // the step under way yields a token

  size_t pending() const { return tokens.size() - cached; }
};

uint64_t blocksFor(const PlanSetInfo &info, uint64_t tokens) {
  return (std::min<uint64_t>(tokens, info.maxSequence) + info.kvBlockTokens - 1) / info.kvBlockTokens;
}

int32_t growsTo(const PlanSetInfo &info, uint64_t tokens) {
  return static_cast<int32_t>(std::min<uint64_t>(tokens, info.maxSequence));
}

Status checkTokens(const PlanSetInfo &info, const std::vector<int32_t> &tokens) {
  if (tokens.empty())
    return invalidArgument("the prompt has no tokens, expected at least one");
  if (tokens.size() > info.maxSequence)
    return invalidArgument("the prompt has " + std::to_string(tokens.size()) + " tokens and the plan holds at most " +
                           std::to_string(info.maxSequence) + "; compile with a larger --max-seq");
  for (size_t i = 0; i < tokens.size(); ++i)
    if (tokens[i] < 0 || static_cast<uint32_t>(tokens[i]) >= info.vocabulary)
      return invalidArgument("token " + std::to_string(i) + " is " + std::to_string(tokens[i]) + ", expected 0 to " +
                             std::to_string(int64_t(info.vocabulary) - 1));
  return {};
}

Status checkPlan(const PlanSetInfo &info) {
  auto empty = [](const PlanSetInfo::Limits &l) {
    return l.microBatches == 0 || l.maxTokens == 0 || l.maxSequences == 0 || l.maxOutputs == 0;
  };
  if (info.maxBatch == 0 || empty(info.decode) || empty(info.prefill) || info.maxSequence == 0 ||
      info.kvBlockTokens == 0 || info.blocksPerSequence < blocksFor(info, info.maxSequence))
    return failedPrecondition("the plan cannot hold one sequence of its own limits; compile again");
  return {};
}

Status checkBlocks(const PlanSetInfo &info, uint64_t tokens) {
  if (const uint64_t need = blocksFor(info, tokens); need > info.kvBlocks)
    return resourceExhausted("prompt and new tokens need " + std::to_string(need) +
                             " blocks of cache and the plan has " + std::to_string(info.kvBlocks) +
                             "; ask for fewer tokens or compile with more cache");
  return {};
}

// Tokens of the next step for each sequence: those with one token left first, so that running answers are not held up
// by prompts; prompts share what is left of the step in order of admission. Whether it is a decode step.
bool choose(const PlanSetInfo &info, std::vector<std::unique_ptr<Sequence>> &active) {
  const bool decode = std::all_of(active.begin(), active.end(), [](const auto &s) { return s->pending() == 1; });
  const PlanSetInfo::Limits &limits = decode ? info.decode : info.prefill;
  // All outputs of the step may fall into one micro-batch; one for each of its sequences always fits.
  size_t tokens = size_t(limits.maxTokens) * limits.microBatches;
  size_t outputs = limits.maxOutputs >= std::min(info.maxBatch, limits.maxTokens) ? tokens : size_t(limits.maxOutputs);
  for (auto &s : active)
    s->scheduled = 0, s->samples = false;
  for (bool prompts : {false, true})
    for (auto &s : active) {
      if ((s->pending() > 1) != prompts)
        continue;
      s->scheduled = std::min(s->pending(), tokens);
      s->samples = s->scheduled == s->pending();
      if (s->samples && outputs == 0)
        --s->scheduled, s->samples = false;
      tokens -= s->scheduled;
      outputs -= s->samples;
    }
  return decode;
}

// The step, its tokens dealt out evenly over micro-batches: a prompt may be cut, it goes on in the next one.
std::vector<Batch> schedule(const PlanSetInfo &info, std::vector<std::unique_ptr<Sequence>> &active,
                            const std::vector<Request> &requests) {
  const bool decode = choose(info, active);
  const PlanSetInfo::Limits &limits = decode ? info.decode : info.prefill;
  size_t total = 0;
  for (const auto &s : active)
    total += s->scheduled;
  const size_t share = (total + limits.microBatches - 1) / limits.microBatches;
  std::vector<Batch> batches;
  for (const auto &s : active) {
    const size_t end = s->cached + s->scheduled;
    for (size_t begin = s->cached, next = begin; begin < end; begin = next) {
      if (batches.empty() || batches.back().tokens.size() == share)
        batches.emplace_back().sequenceStarts = {0};
      Batch &batch = batches.back();
      batch.decode = decode;
      next = std::min(end, begin + share - batch.tokens.size());
      for (size_t i = begin; i < next; ++i) {
        batch.tokens.push_back(s->tokens[i]);
        batch.positions.push_back(static_cast<int32_t>(i));
      }
      batch.sequenceStarts.push_back(static_cast<int32_t>(batch.tokens.size()));
      batch.lengths.push_back(s->length);
      batch.blockTable.insert(batch.blockTable.end(), s->blocks.begin(), s->blocks.end());
      batch.blockTable.resize((batch.sequenceStarts.size() - 1) * info.blocksPerSequence, -1);
      if (next == end && s->samples) {
        batch.outputs.push_back(static_cast<int32_t>(batch.tokens.size()) - 1);
        batch.sampling.push_back(requests[s->request].sampling);
      }
    }
  }
  return batches;
}

void count(EngineStats &stats, const PlanSetInfo &info, const std::vector<Batch> &batches, double seconds) {
  const bool decode = batches[0].decode;
  (decode ? stats.decodeSeconds : stats.prefillSeconds) += seconds;
  stats.decodeSteps += decode;
  for (const Batch &batch : batches) {
    (decode ? stats.decodeTokens : stats.prefillTokens) += batch.tokens.size();
    if (!decode)
      continue;
    stats.decodeBytes += double(info.weightBytes);
    for (const auto &[use, bytes] : info.expertBytes)
      stats.decodeBytes +=
          double(bytes) / use.experts * expectedExperts(use.experts, use.count, double(batch.tokens.size()));
    for (int32_t position : batch.positions)
      for (const auto &[window, bytes] : info.kvBytesPerToken)
        stats.decodeBytes += double(bytes) * (window ? std::min(window, uint32_t(position) + 1) : position + 1.0);
  }
}

Result<std::vector<StepResult>> timedStep(StepModel &model, const std::vector<Batch> &batches, EngineStats &stats) {
  const auto start = std::chrono::steady_clock::now();
  Result<std::vector<StepResult>> results = model.step(batches);
  count(stats, model.info(), batches, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  if (!results.ok())
    return results;
  const uint64_t vocabulary = model.info().vocabulary;
  for (size_t m = 0; m < batches.size(); ++m) {
    const size_t outputs = batches[m].outputs.size();
    if (results->size() != batches.size() || (*results)[m].ids.size() != outputs ||
        (batches[m].wantLogits && (*results)[m].logits.size() != outputs * vocabulary))
      return internal("the step gave other ids or logits than " + std::to_string(outputs) + " of micro-batch " +
                      std::to_string(m));
  }
  return results;
}

Result<TokenEvent> accept(Sequence &s, int32_t id, const Request &request, const PlanSetInfo &info,
                          const EngineHooks &hooks) {
  TokenEvent event{s.request, id, Finish::None, {}};
  s.tokens.push_back(id);
  ++s.produced;
  if (!request.ignoreEos && hooks.isEndOfGeneration && hooks.isEndOfGeneration(id)) {
    event.finish = Finish::EndOfGeneration;
  } else if (s.decoder) {
    DISTC_ASSIGN(const std::string text, s.decoder->push(id));
    event.text = s.filter.push(text);
  }
  if (event.finish == Finish::None) {
    if (s.filter.stopped())
      event.finish = Finish::Stop;
    else if (s.produced >= request.maxNewTokens)
      event.finish = Finish::MaxTokens;
    else if (s.tokens.size() > info.maxSequence)
      event.finish = Finish::ContextLimit;
  }
  if (event.finish != Finish::None && event.finish != Finish::Stop && s.decoder) {
    event.text += s.filter.push(s.decoder->finish());
    event.text += s.filter.finish();
  }
  return event;
}

} // namespace

Status Engine::generate(const std::vector<Request> &requests, const std::function<void(const TokenEvent &)> &onToken) {
  const PlanSetInfo &info = model_.info();
  DISTC_TRY(checkPlan(info));
  auto need = [](const Request &r) { return uint64_t(r.tokens.size()) + r.maxNewTokens; };
  for (size_t i = 0; i < requests.size(); ++i) {
    const Request &r = requests[i];
    const std::string name = "request " + std::to_string(i);
    DISTC_TRY(checkTokens(info, r.tokens).context(name));
    if (r.maxNewTokens == 0)
      return invalidArgument(name + ": 0 new tokens, expected at least 1");
    if (!r.stops.empty() && !hooks_.makeDecoder)
      return invalidArgument(name + ": stop strings need a tokenizer and the plan set has none");
    if (std::any_of(r.stops.begin(), r.stops.end(), [](const std::string &s) { return s.empty(); }))
      return invalidArgument(name + ": a stop string is empty");
    DISTC_TRY(checkBlocks(info, need(r)).context(name));
  }
  BlockAllocator blocks(info.kvBlocks);
  std::vector<std::unique_ptr<Sequence>> active;
  for (size_t next = 0; next < requests.size() || !active.empty();) {
    for (; next < requests.size() && active.size() < info.maxBatch; ++next) {
      const uint64_t count = blocksFor(info, need(requests[next]));
      if (count > blocks.available())
        break;
      active.push_back(std::unique_ptr<Sequence>(
          new Sequence{next, requests[next].tokens, 0, 0, blocks.take(count), growsTo(info, need(requests[next])),
                       hooks_.makeDecoder ? hooks_.makeDecoder() : nullptr, StopFilter(requests[next].stops)}));
    }
    DISTC_ASSIGN(const auto results, timedStep(model_, schedule(info, active, requests), stats_));
    std::vector<int32_t> ids; // in the order of the sequences
    for (const StepResult &result : results)
      ids.insert(ids.end(), result.ids.begin(), result.ids.end());
    size_t output = 0;
    for (auto &s : active) {
      s->cached += s->scheduled;
      if (!s->samples)
        continue;
      DISTC_ASSIGN(const TokenEvent event, accept(*s, ids[output++], requests[s->request], info, hooks_));
      onToken(event);
      if (event.finish != Finish::None) {
        blocks.give(s->blocks);
        s.reset();
      }
    }
    std::erase(active, nullptr);
  }
  return {};
}

Result<std::vector<float>> Engine::logits(const std::vector<int32_t> &tokens) {
  const PlanSetInfo &info = model_.info();
  DISTC_TRY(checkPlan(info));
  DISTC_TRY(checkTokens(info, tokens));
  DISTC_TRY(checkBlocks(info, tokens.size()));
  const std::vector<int32_t> blocks = BlockAllocator(info.kvBlocks).take(blocksFor(info, tokens.size()));
  std::vector<float> out;
  out.reserve(tokens.size() * info.vocabulary);
  const size_t chunk = std::min(info.prefill.maxOutputs, info.prefill.maxTokens);
  for (size_t begin = 0; begin < tokens.size();) {
    std::vector<Batch> batches;
    for (; begin < tokens.size() && batches.size() < info.prefill.microBatches; begin += chunk) {
      const size_t count = std::min(chunk, tokens.size() - begin);
      Batch &batch = batches.emplace_back();
      batch.wantLogits = true;
      for (size_t i = 0; i < count; ++i) {
        batch.tokens.push_back(tokens[begin + i]);
        batch.positions.push_back(static_cast<int32_t>(begin + i));
        batch.outputs.push_back(static_cast<int32_t>(i));
      }
      batch.sequenceStarts = {0, static_cast<int32_t>(count)};
      batch.lengths = {growsTo(info, tokens.size())};
      batch.blockTable = blocks;
      batch.blockTable.resize(info.blocksPerSequence, -1);
      batch.sampling.resize(count);
    }
    DISTC_ASSIGN(const auto results, timedStep(model_, batches, stats_));
    for (const StepResult &result : results)
      out.insert(out.end(), result.logits.begin(), result.logits.end());
  }
  return out;
}

} // namespace distc
