// Rank: one rank of a plan set with everything that is its own: plan, backend, communicator, threads.
#pragma once

#include "distc/Runner.h"
#include "runtime/backends/Backend.h"
#include "runtime/base/System.h"
#include "runtime/exec/Trace.h"
#include "runtime/exec/Walk.h"

#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>

namespace distc {

struct RankOptions {
  ThreadPool::Options threads;                    // the rank's own thread is the first of them
  uint32_t device = 0;                            // Device::index
  const std::atomic<bool> *interrupted = nullptr; // ends a step between two instructions
  Trace *trace = nullptr;
  StepObserver *observer = nullptr;
};

/// A micro-batch of a step, and where its results go.
struct MicroBatch {
  const StepInput *input;
  StepOutput *output;
};

class Rank {
public:
  /// As many communicators as micro-batches may be in flight (Program.micro_batches); one, for a backend that has one
  /// at a time.
  Rank(const plan::Plan &plan, Communicators communicators, const RankOptions &options);
  /// Ends the rank's thread. Work in flight must be able to end: abort first.
  ~Rank();

  const plan::Plan &plan() const { return plan_; }
  /// Ends all waits of all ranks with `failure`. Callable from any thread.
  void abort(const Status &failure) { communicators_[0]->abort(failure); }

  /// Starts on the rank's thread; one thing at a time. References live until wait() has returned.
  void startLoad(const SourceFiles &files, const LoadOptions &options);
  void startStep(uint32_t program, std::vector<MicroBatch> microBatches);
  /// How what was started ended. With `forSeconds` > 0 gives up after that long: nothing is returned then.
  std::optional<Status> wait(double forSeconds = 0);

private:
  void loop();
  void start(std::function<Status()> work);
  Status load(const SourceFiles &files, const LoadOptions &options);
  Status step(uint32_t program, const std::vector<MicroBatch> &microBatches);
  Status walkAlone(uint32_t slot, uint32_t program, size_t first, size_t end);
  Status walkTogether(const WalkProgram &program, uint32_t slots);
  Status execute(uint32_t slot, const Instruction &instruction);
  Status end(uint32_t slot);
  /// What the device did in a step that began at `begun`.
  Status traceDevice(RankTrace::Clock::time_point begun);
  std::string name() const { return "rank " + std::to_string(plan_.mesh()->rank()); }

  const plan::Plan &plan_;
  const Communicators communicators_;
  const RankOptions options_;
  const std::vector<int> allCores_ = allowedCores(); // of the thread that makes the rank, which is not pinned
  std::vector<WalkProgram> programs_;
  std::vector<RankTrace *> traces_; // by slot and queue: those are the most threads that trace; empty: no trace

  // Owned by the rank's thread: made and destroyed on it.
  std::unique_ptr<ThreadPool> pool_;
  std::unique_ptr<Backend> backend_;
  uint64_t step_ = 0; // under way

  std::mutex mutex_;
  std::condition_variable changed_;
  std::function<Status()> work_; // empty: none
  std::optional<Status> result_;
  bool stop_ = false;
  std::thread thread_;
};

} // namespace distc
