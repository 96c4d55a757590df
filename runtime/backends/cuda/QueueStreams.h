// The queues of a plan as streams. A program in which communication is to run beside computation has a stream for each
// queue, ordered by the plan's events; any other has one for both, on which the order of the program is enough. Which
// instruction was under way when is found out here too, where the streams are.
#pragma once

#include "runtime/backends/Backend.h"
#include "runtime/backends/cuda/Device.h"

#include <span>
#include <vector>

namespace distc {

class QueueStreams {
public:
  /// `compute`: the stream of queue 0, made and owned by the caller. Both outlive this.
  QueueStreams(const plan::Plan &plan, const cuda::Stream &compute) : plan_(plan), compute_(compute) {}
  ~QueueStreams();

  /// `traced`: times() will be asked for.
  Status create(bool traced);

  /// A step of a program, what is queued on the compute stream before it included.
  Status begin(uint32_t program);
  /// The compute stream then waits for all of the step.
  Status end();

  cudaStream_t stream(const Instruction &instruction) const {
    return overlapped_ && instruction.queue != 0 ? communication_ : compute_;
  }

  /// Around the work of `parts`, successive instructions of one queue, which is queued under the name of `instruction`:
  /// it waits for what they wait for, and signals what they signal.
  Status before(const Instruction &instruction, std::span<const Instruction> parts);
  Status after(const Instruction &instruction, std::span<const Instruction> parts);

  /// Of the step that has ended (Backend::times).
  Result<std::vector<Backend::Time>> times() const;

  /// Waits for the communication that may still be queued.
  void drain() const { (void)cudaStreamSynchronize(communication_); }

private:
  struct Timed {
    const Instruction *instruction;
    size_t begin, end; // clocks_
  };
  Status order(cudaStream_t first, cudaStream_t then);
  Result<size_t> clock(cudaStream_t stream);

  const plan::Plan &plan_;
  const cuda::Stream &compute_;
  cuda::Stream communication_;
  std::vector<char> isOverlapped_;  // by program
  std::vector<cudaEvent_t> events_; // by event of a program; those of one step at a time
  cudaEvent_t between_ = nullptr;   // the streams, where a step begins and ends
  bool overlapped_ = false, traced_ = false;
  std::vector<Timed> timed_;        // of the step
  std::vector<cudaEvent_t> clocks_; // the first: where the step begins
  size_t usedClocks_ = 0;
};

} // namespace distc
