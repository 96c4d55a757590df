// Walk: the order in which the threads of one rank execute a step, where it has several micro-batches in flight or
// communication beside computation.
//
// A lane is a thread's share: a micro-batch, or of an overlapped program one queue of one. Between lanes holds:
// - An instruction starts when the events that it waits for have been signalled, by its own micro-batch.
// - Instructions of queue 0 exclude each other: they have the rank's threads. A micro-batch keeps its turn until it
// must
//   wait; then the lowest that can go on has it, so that a stage ends one micro-batch before it begins the next.
// - Micro-batch k executes an instruction of queue 0 after micro-batch k-1 has executed the same one, attention after
//   micro-batch k-1 has appended all its keys and values. So a prompt may be cut over micro-batches.
// Queue 0 never communicates and nobody waits while it has the turn, and every wait is for an earlier instruction of
// the same micro-batch or for an earlier micro-batch: what is free of deadlock with one micro-batch is with many.
#pragma once

#include "runtime/backends/Backend.h"

#include <condition_variable>
#include <functional>
#include <mutex>
#include <span>
#include <vector>

namespace distc {

/// The instructions of a program, looked up once.
struct WalkProgram {
  std::vector<Instruction> instructions; // in program order
  std::vector<size_t> after;             // by instruction: the one of the micro-batch before that must be done
  uint32_t events = 0;
  size_t comesBack = 0;    // the last instruction that receives from another stage; none: as many as there are
  bool overlapped = false; // runtime/plan/Queues.h; else one thread loses nothing

  explicit WalkProgram(const plan::Program &program);
};

class Walk {
public:
  struct Hooks {
    std::function<Status(uint32_t slot, const Instruction &)> execute;
    std::function<Status(uint32_t slot)> end;   // after the last communication of a slot, on its thread
    std::function<void(const Status &)> failed; // the first failure; must end what other lanes wait for
  };

  Walk(const WalkProgram &program, uint32_t slots, Hooks hooks);

  uint32_t lanes() const { return slots_ * (program_.overlapped ? 2 : 1); }
  /// Each lane on a thread of its own. What a hook throws is a failure.
  void run(uint32_t lane);
  /// Ends all lanes, as a failure of one does.
  void fail(const Status &status);
  /// Once all lanes have ended.
  const Status &status() const { return status_; }

private:
  struct Slot {
    std::vector<bool> signalled; // by event
    size_t done = 0;             // instructions of queue 0 before this one in the program are done
    size_t next = 0;             // the one that waits for the turn
    bool waits = false;
  };
  static constexpr int64_t kNobody = -1;

  bool signalled(const Slot &slot, const Instruction &instruction) const;
  bool inOrder(uint32_t slot, size_t instruction) const; // as to the micro-batch before
  bool mayGo(uint32_t slot, size_t instruction) const;
  void giveUpTurn(uint32_t slot);
  bool await(uint32_t slot, size_t instruction);
  void note(uint32_t slot, size_t instruction);

  const WalkProgram &program_;
  const uint32_t slots_;
  const Hooks hooks_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Slot> state_;
  int64_t turn_ = kNobody; // the slot that may compute
  Status status_;
};

} // namespace distc
