// Which mesh to run a model on: every tensor-parallel degree x pipeline stages x replicas that the devices allow, each
// compiled, held against the machine's memory and simulated.
#pragma once

#include "compiler/Analysis/StepSimulator.h"

#include <functional>
#include <string>

namespace distc {

struct AdviseOptions {
  uint64_t gpus = 1;
  bool throughput = false; // else latency
  uint64_t context = 4096, batch = 1;
  uint64_t tp = 0, pp = 0; // this one alone; 0: any
  bool replicas = true;    // devices that are left run further copies, which share the batch
  const char *contextFlag = "--context", *batchFlag = "--batch"; // what errors call them
};

struct Candidate {
  uint64_t tp = 1, pp = 1, replicas = 1;
  uint64_t batch = 1;         // of each replica
  double need = 0, share = 0; // bytes on the fullest device, and of its memory
  double weights = 0;         // bytes that a decode step reads, of all devices
  bool fits = false;
  // Of a decode step at the end of the context; of those that fit.
  double seconds = 0, tokensPerSecond = 0, firstToken = 0, exposed = 0, idle = 0;
  std::string remark; // why it is not the one
  uint64_t devices() const { return tp * pp * replicas; }
};

struct Advice {
  std::vector<Candidate> candidates; // the best first, then those that do not fit
  bool oneFits = false;              // the model fits one device
  uint64_t skipped = 0;              // meshes that a bound has shown not to be the one
};

/// What is kept of each device's memory, for more KV cache than asked for and for what the machine itself needs.
constexpr double kKeptMemory = .15;

/// The framed plans of all ranks, of `batch` sequences. `firstOnly`: of the first rank of each stage, where the others
/// need as much memory and time.
using CompilePlans =
    std::function<Result<std::vector<std::vector<uint8_t>>>(uint64_t tp, uint64_t pp, uint64_t batch, bool firstOnly)>;

/// Bytes on the fullest device; on a CPU all ranks share the host's memory.
double fullest(const Machine &machine, const std::vector<const plan::Plan *> &plans);

/// Seconds of a full prefill step of one sequence, as plans predict them.
Result<double> prefillStep(const Machine &machine, const std::vector<std::vector<uint8_t>> &files);

/// Above this many meshes on GPUs those are not compiled that cannot be the best: that have more stages than one of the
/// same degree that fits, since stages of a decode step take turns; whose devices cannot hold their share of the
/// weights, or take longer to read it than the best so far takes for all.
constexpr size_t kFewMeshes = 48;

/// ResourceExhausted, naming the nearest, where none fits.
Result<Advice> advise(const Machine &machine, uint64_t heads, uint64_t layers, const AdviseOptions &options,
                      const CompilePlans &compile);

} // namespace distc
