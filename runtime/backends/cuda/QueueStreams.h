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

  /// A micro-batch of a step of a program; `first`: of the step. What follows counts its time from here.
  Status begin(uint32_t program, bool first);
  /// The queues begin after what is queued on the compute stream.
  Status fork();
  /// The compute stream then waits for all that was queued.
  Status join();

  cudaStream_t stream(const Instruction &instruction) const {
    return overlapped_ && instruction.queue != 0 ? communication_ : compute_;
  }

  /// Around the work of `parts`, successive instructions of one queue, which is queued under the name of `instruction`:
  /// it waits for what they wait for, and signals what they signal.
  Status before(uint32_t slot, const Instruction &instruction, std::span<const Instruction> parts);
  Status after(const Instruction &instruction, std::span<const Instruction> parts);

  /// An instruction that was queued, between two events.
  struct Timed {
    const Instruction *instruction;
    uint32_t slot;
    cudaEvent_t begin, end;
  };
  /// What is queued between these is captured into a graph, and takes its times whenever that runs.
  void beginCapture();
  std::vector<Timed> endCapture();
  /// A graph runs in which this was captured.
  void replayed(std::span<const Timed> captured);

  /// Of the step that has ended (Backend::times).
  Result<std::vector<Backend::Time>> times() const;

  /// Waits for the communication that may still be queued.
  void drain() const { (void)cudaStreamSynchronize(communication_); }

private:
  Status order(cudaStream_t first, cudaStream_t then);
  Result<cudaEvent_t> clock(cudaStream_t stream);

  const plan::Plan &plan_;
  const cuda::Stream &compute_;
  cuda::Stream communication_;
  std::vector<char> isOverlapped_;  // by program
  std::vector<cudaEvent_t> events_; // by event of a program; those of one micro-batch at a time
  cudaEvent_t between_ = nullptr;   // the streams, where a micro-batch begins and ends
  bool overlapped_ = false, traced_ = false, capturing_ = false;
  cudaEvent_t begun_ = nullptr;       // the step
  std::vector<Timed> timed_;          // of the step
  size_t captured_ = 0;               // of timed_, before the capture
  std::vector<cudaEvent_t> clocks_;   // that are used again in each step
  std::vector<cudaEvent_t> inGraphs_; // that are not
  size_t usedClocks_ = 0;
};

} // namespace distc
