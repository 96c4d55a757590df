#include "compiler/Analysis/Workload.h"

#include <algorithm>

namespace distc {

uint64_t tokensOf(const Runs &runs) {
  uint64_t tokens = 0;
  for (const SequenceRun &run : runs)
    tokens += run.sequences * run.tokens;
  return tokens;
}

uint64_t outputsOf(const Runs &runs) {
  uint64_t outputs = 0;
  for (const SequenceRun &run : runs)
    outputs += run.sequences * run.outputs;
  return outputs;
}

static void append(Runs &runs, const SequenceRun &run) {
  if (run.sequences == 0 || run.tokens == 0)
    return;
  if (!runs.empty() && runs.back().tokens == run.tokens && runs.back().position == run.position &&
      runs.back().outputs == run.outputs)
    runs.back().sequences += run.sequences;
  else
    runs.push_back(run);
}

Runs slice(const Runs &runs, uint64_t first, uint64_t count) {
  Runs result;
  uint64_t at = 0; // the first token of the run
  const uint64_t end = first + count;
  for (const SequenceRun &run : runs) {
    const uint64_t whole = run.sequences * run.tokens, from = std::max(at, first), to = std::min(at + whole, end);
    for (uint64_t token = from; token < to;) {
      const uint64_t inside = (token - at) % run.tokens;
      if (const uint64_t many = (to - token) / run.tokens; inside == 0 && many > 0) {
        append(result, {many, run.tokens, run.position, run.outputs});
        token += many * run.tokens;
        continue;
      }
      const uint64_t part = std::min(run.tokens - inside, to - token);
      append(result, {1, part, run.position + inside, inside + part == run.tokens ? run.outputs : 0});
      token += part;
    }
    at += whole;
  }
  return result;
}

std::vector<Runs> microBatches(const Runs &runs, uint64_t count) {
  const uint64_t tokens = tokensOf(runs), share = (tokens + count - 1) / count;
  std::vector<Runs> result;
  for (uint64_t first = 0; first < tokens; first += share)
    result.push_back(slice(runs, first, std::min(share, tokens - first)));
  return result;
}

Schedule::Schedule(uint64_t batch, uint64_t promptTokens, uint64_t newTokens, const StepLimits &limits)
    : active_(batch, Sequence{0, promptTokens, 0}), newTokens_(newTokens), limits_(limits) {}

bool Schedule::decodes() const {
  return std::all_of(active_.begin(), active_.end(), [](const Sequence &s) { return s.pending() == 1; });
}

uint64_t Schedule::decodeSteps() const {
  uint64_t steps = UINT64_MAX;
  for (const Sequence &s : active_)
    steps = std::min(steps, newTokens_ - s.produced);
  return steps;
}

std::vector<Schedule::Share> Schedule::shares() const {
  const bool decode = decodes();
  uint64_t tokens = decode ? limits_.sequences : limits_.tokens, outputs = decode ? limits_.sequences : limits_.outputs;
  std::vector<Share> result(active_.size());
  for (bool prompts : {false, true})
    for (size_t i = 0; i < active_.size(); ++i) {
      const Sequence &s = active_[i];
      if ((s.pending() > 1) != prompts)
        continue;
      Share &share = result[i];
      share.tokens = std::min(s.pending(), tokens);
      share.samples = share.tokens == s.pending();
      if (share.samples && outputs == 0) {
        share.tokens -= 1;
        share.samples = false;
      }
      tokens -= share.tokens;
      outputs -= share.samples;
    }
  return result;
}

Runs Schedule::next(uint64_t ahead) const {
  const std::vector<Share> all = shares();
  Runs runs;
  for (size_t i = 0; i < active_.size(); ++i)
    append(runs, {1, all[i].tokens, active_[i].cached + ahead, all[i].samples});
  return runs;
}

uint64_t Schedule::advance(uint64_t steps) {
  const std::vector<Share> all = shares();
  uint64_t first = 0;
  for (size_t i = 0; i < active_.size(); ++i) {
    Sequence &s = active_[i];
    s.cached += all[i].tokens + steps - 1;
    if (!all[i].samples)
      continue;
    first += s.produced == 0;
    s.produced += steps;
    s.length += steps;
  }
  std::erase_if(active_, [&](const Sequence &s) { return s.produced >= newTokens_; });
  return first;
}

} // namespace distc
