// `distc compile`: from a model to a folder of verified plans.
#pragma once

#include "compiler/Import/ModelBuilder.h"
#include "compiler/Pipelines/Pipelines.h"
#include "runtime/schema/PlanFile.h"

#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace distc {

struct CompileOptions {
  std::string model;
  int64_t tp = 1, pp = 1;
  std::vector<int64_t> ppSplit;
  bool sequenceParallel = false;
  std::string output; // empty: MODEL.tpNppM in the current folder
  std::string target = "cpu";
  bool targetGiven = false;   // else it is that of `machine`, where there is one
  std::optional<int64_t> sms; // of the target; none: that of an H100
  std::string weights;        // "none": shapes alone
  std::string emit;           // llm, shard, dist, plan: print that form instead of writing plans
  std::string dumpIr;         // folder for the IR after each pass
  int64_t maxBatch = 8, maxTokens = 512, kvBlock = 16;
  int64_t microBatches = 1, decodeMicroBatches = 1, overlapChunks = 1;
  std::optional<int64_t> maxSequence; // else by the model
  bool timing = false;
  bool autoTp = false, autoPp = false, autoOverlap = false; // chosen for `gpus` devices of `machine`
  std::string machine;
  int64_t gpus = 0;
};

/// What is wrong with the flags alone: a usage error.
Status checkOptions(const CompileOptions &options);

Status compile(const CompileOptions &options);

/// The framed plans of all ranks, in rank order, of a model that is open; nothing is written, printed or proven.
/// `firstOnly`: of the first rank of each stage.
Result<std::vector<std::vector<uint8_t>>> compileInMemory(const CompileOptions &options,
                                                          const import::ModelSource &source, bool firstOnly = false);

/// The tokens of a sequence that a plan holds where nothing else is said.
int64_t defaultSequence(const import::ModelSource &source);

/// Warns if `tokens`, asked for with `flag`, are more than the model was made for.
void warnBeyond(const char *flag, int64_t tokens, const import::ModelSource &source);

/// Prints what a plan set costs: memory of each rank, collectives of a decode step.
void printSummary(const std::vector<PlanFile> &set, const std::string &directory);

} // namespace distc
