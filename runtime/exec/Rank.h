// Rank: one rank of a plan set with everything that is its own: plan, backend, communicator, threads.
#pragma once

#include "runtime/backends/Backend.h"
#include "runtime/exec/Trace.h"

#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>

namespace distc {

struct RankOptions {
  ThreadPool::Options threads;                    // the rank's own thread is the first of them
  uint32_t device = 0;                            // Device::index
  const std::atomic<bool> *interrupted = nullptr; // ends a step between two instructions
  RankTrace *trace = nullptr;
};

class Rank {
public:
  Rank(const plan::Plan &plan, std::unique_ptr<Communicator> communicator, const RankOptions &options);
  /// Ends the rank's thread. Work in flight must be able to end: abort its communicator first.
  ~Rank();

  const plan::Plan &plan() const { return plan_; }
  Communicator &communicator() { return *communicator_; }

  /// Starts on the rank's thread; one thing at a time. References live until wait() has returned.
  void startLoad(const SourceFiles &files, const LoadOptions &options);
  void startStep(uint32_t program, const StepInput &input, StepOutput &output);
  /// How what was started ended. With `forSeconds` > 0 gives up after that long: nothing is returned then.
  std::optional<Status> wait(double forSeconds = 0);

private:
  void loop();
  void start(std::function<Status()> work);
  Status load(const SourceFiles &files, const LoadOptions &options);
  Status step(uint32_t program, const StepInput &input, StepOutput &output);
  Status execute(const Instruction &instruction);
  void prepare();

  const plan::Plan &plan_;
  const std::unique_ptr<Communicator> communicator_;
  const RankOptions options_;
  std::vector<std::vector<Instruction>> programs_;

  // Owned by the rank's thread: made and destroyed on it.
  std::unique_ptr<ThreadPool> pool_;
  std::unique_ptr<Backend> backend_;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::function<Status()> work_; // empty: none
  std::optional<Status> result_;
  bool stop_ = false;
  std::thread thread_;
};

} // namespace distc
