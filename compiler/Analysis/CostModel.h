// How long one instruction of a plan takes on a machine: the larger of what its bytes and its arithmetic take, and an
// overhead. Communication by the formulas of the runtime's algorithms. Where the figures come from: Machine.h.
#pragma once

#include "compiler/Analysis/Machine.h"
#include "compiler/Analysis/Workload.h"

#include <span>

namespace distc {

/// What an instruction moves and computes, on any machine.
struct Work {
  double weightBytes = 0, cacheBytes = 0, activationBytes = 0;
  double flops = 0;    // of a product, or of attention
  double elements = 0; // of what it writes
  uint64_t rows = 0;   // of what a product or attention reads; of all others of what they write
  double bytes() const { return weightBytes + cacheBytes + activationBytes; }
};

/// Of the rows that the buffer has for a batch.
double bufferBytes(const plan::Buffer &buffer, const Runs &batch);

Work workOf(const plan::Plan &plan, const plan::Program &program, const plan::Instruction &instruction,
            const Runs &batch);

class CostModel {
public:
  /// `ranks` of a plan set share the cores where the machine is a CPU, as runtime/exec/Placement.cpp places them; of
  /// these `active` compute at once and share the memory's bandwidth. `footprint`: bytes of weights and KV
  /// cache that a step of all of them reads, of which a cache keeps a part until the next step.
  CostModel(const Machine &machine, uint64_t ranks, uint64_t active, double footprint);

  /// Whether the machine can run the plan and has a rate for the type of every matrix.
  static Status check(const Machine &machine, const plan::Plan &plan, const std::string &where);

  /// Seconds of a compute instruction. `staged`: its place in a stage of a tile schedule that runs as one kernel.
  enum class Staged { No, First, Inside };
  double compute(const plan::Plan &plan, const plan::Instruction &instruction, const Work &work,
                 Staged staged = Staged::No) const;

  /// The smallest tier that joins all `ranks`; InvalidArgument if none does.
  static Result<const LinkTier *> tier(const Machine &machine, std::span<const uint32_t> ranks);
  /// Seconds of a collective from the time that all members are there. `bytes`: of the longer of a member's two ends.
  static double collective(const LinkTier &tier, plan::Op op, uint64_t members, double bytes);

private:
  double elementwise(double bytes, double perSecond, double elements) const;

  const Machine &machine_;
  double threads_, speed_; // of a rank; cores' worth of arithmetic that it gets
  double bandwidth_;       // bytes per second that a rank gets
};

/// How each instruction of `program` runs in a step of `tokens` tokens.
std::vector<CostModel::Staged> stagedInstructions(const plan::Program &program, uint64_t tokens);

} // namespace distc
