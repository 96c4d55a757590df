#include "distc/Engine.h"
#include "tools/distrun/Commands.h"

#include <algorithm>
#include <cstdio>
#include <random>

namespace distc {

namespace {

struct Spread {
  double median, min, max;
};

Spread spread(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t n = values.size();
  return {(values[(n - 1) / 2] + values[n / 2]) / 2, values.front(), values.back()};
}

std::string json(const char *name, const Spread &s) {
  char text[256];
  std::snprintf(text, sizeof(text), "\"%s\":{\"median\":%.6g,\"min\":%.6g,\"max\":%.6g}", name, s.median, s.min, s.max);
  return text;
}

std::string line(const char *name, const Spread &s) {
  char text[256];
  std::snprintf(text, sizeof(text), "%-24s %10.2f  (%.2f to %.2f)\n", name, s.median, s.min, s.max);
  return text;
}

} // namespace

Status runBench(const Options &options) {
  DISTC_ASSIGN(const std::unique_ptr<Runner> runner, openRunner(options));
  const PlanSetInfo &info = runner->info();
  if (options.batch > info.maxBatch)
    return invalidArgument("--batch is " + std::to_string(options.batch) + " and the plan holds at most " +
                           std::to_string(info.maxBatch) + "; compile with a larger --max-batch");
  if (uint64_t(options.promptTokens) + options.newTokens > info.maxSequence)
    return invalidArgument("--prompt-tokens and --new-tokens are " +
                           std::to_string(uint64_t(options.promptTokens) + options.newTokens) +
                           " together and the plan holds at most " + std::to_string(info.maxSequence) +
                           "; compile with a larger --max-seq");
  if (info.vocabulary == 0)
    return failedPrecondition("the plan has no vocabulary");
  std::mt19937 random(1);
  std::uniform_int_distribution<int32_t> ids(0, static_cast<int32_t>(info.vocabulary) - 1);
  std::vector<double> prefill, decodeMs, decode, bandwidth;
  const double machine = runner->readBandwidth() / 1e9;
  for (uint32_t run = 0; run <= options.repeat; ++run) {
    std::vector<Request> requests(options.batch);
    for (Request &r : requests) {
      for (uint32_t i = 0; i < options.promptTokens; ++i)
        r.tokens.push_back(ids(random));
      r.maxNewTokens = options.newTokens;
      r.ignoreEos = true;
    }
    RunnerModel model(*runner);
    Engine engine(model);
    DISTC_TRY(engine.generate(requests, [](const TokenEvent &) {}));
    const EngineStats &s = engine.stats();
    if (run == 0)
      continue; // the first run also brings the weights into memory
    if (s.prefillSeconds > 0)
      prefill.push_back(double(s.prefillTokens) / s.prefillSeconds);
    if (s.decodeSteps > 0) {
      decodeMs.push_back(1e3 * s.decodeSeconds / double(s.decodeSteps));
      decode.push_back(double(s.decodeTokens) / s.decodeSeconds);
      bandwidth.push_back(s.decodeBytes / s.decodeSeconds / 1e9);
    }
  }
  std::string out;
  auto add = [&](const char *key, const char *title, const std::vector<double> &values) {
    if (!values.empty())
      out += options.json ? json(key, spread(values)) + "," : line(title, spread(values));
  };
  add("prefill_tok_s", "prefill tok/s", prefill);
  add("decode_ms_per_step", "decode ms/step", decodeMs);
  add("decode_tok_s", "decode tok/s", decode);
  add("decode_gb_s", "decode GB/s", bandwidth);
  char text[160];
  const double share = bandwidth.empty() ? 0 : spread(bandwidth).median / machine;
  std::snprintf(text, sizeof(text),
                options.json ? "\"machine_read_gb_s\":%.6g,\"share\":%.6g}\n"
                             : "machine read GB/s        %10.2f\nshare of it              %9.1f%%\n",
                machine, options.json ? share : 100 * share);
  return print((options.json ? "{" : "") + out + text);
}

} // namespace distc
