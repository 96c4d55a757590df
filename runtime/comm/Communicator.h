// Communicator: one rank's end of all its groups. The executor sees this interface alone. Implementations: threads of
// one process (InProcess.h), processes (Messages.h), GPUs (backends/cuda/Nccl.h).
//
// Contract for every implementation:
// - The members of a group issue the same collectives in the same order. Step, sequence, kind, element type and counts
//   are compared where the implementation can see them; a difference is an error, never silence.
// - Reductions add in the order of the member index, whatever the order of arrival, so that a run is repeatable to the
//   bit and one row's sum does not depend on how many rows there are.
// - On host memory a call is done when it returns. On a device it is queued on `stream` when it returns; errors of the
//   device itself come with a later call.
// - A wait ends: with a peer, after the time limit, or because some rank failed. Every call then returns the first
//   failure of all, which names rank, instruction, op and group; the communicator is dead from then on.
#pragma once

#include "distc/Status.h"
#include "runtime/schema/plan_generated.h"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace distc {

/// A group as the plan states it: the index of a rank in `ranks` is its member index.
struct CommGroup {
  std::string name;
  std::vector<uint32_t> ranks;
};

/// Which communication this is. `label` must outlive the communicator.
struct CommCall {
  uint32_t group = 0;       // index into the groups of this rank
  uint64_t step = 0;        // sequence numbers start again with each step
  uint32_t sequence = 0;    // collectives: per group; send and recv: per (sender, receiver)
  uint32_t instruction = 0; // id and label, for errors
  std::string_view label;
  void *stream = nullptr; // on a device: where the call is queued, after what is there. Null: host memory
};

class Communicator {
public:
  virtual ~Communicator() = default;

  /// out[i] = sum (or max) over the members of in[i], i < count. `out` may be `in`. F32 and I32;
  /// on a device F16 and BF16 too, added up in f32.
  virtual Status allReduce(const CommCall &call, const void *in, void *out, size_t count, plan::DType dtype,
                           plan::ReduceOp op) = 0;

  /// Member m's `inCount` elements go to out[m * inCount], as far as `outCount` reaches: the last members' tails may be
  /// padding. outCount <= inCount * members.
  virtual Status allGather(const CommCall &call, const void *in, size_t inCount, void *out, size_t outCount,
                           plan::DType dtype) = 0;

  /// Member m gets elements [m * outCount, (m + 1) * outCount) of the reduced value, zeros where that ends before.
  /// inCount <= outCount * members; `out` and `in` do not overlap. F32 and I32.
  virtual Status reduceScatter(const CommCall &call, const void *in, size_t inCount, void *out, size_t outCount,
                               plan::DType dtype, plan::ReduceOp op) = 0;

  /// `peer` is an index in the group. send does not wait for the peer to receive, however many messages are under way
  /// (the verifier relies on it); `in` is free again when it returns.
  virtual Status send(const CommCall &call, uint32_t peer, const void *in, size_t count, plan::DType dtype) = 0;
  virtual Status recv(const CommCall &call, uint32_t peer, void *out, size_t count, plan::DType dtype) = 0;

  /// Begins and ends on the rank's own thread, where what belongs to a thread is made and freed. `disconnect` comes
  /// after a failure too, before the memory that calls were given goes.
  virtual Status connect() { return {}; }
  virtual void disconnect() {}

  /// On a device: whether a collective of so many elements of each member (`in`) may be queued on a stream that is
  /// captured into a graph, to be replayed: then the device does it alone.
  virtual bool isReplayable([[maybe_unused]] plan::Op op, [[maybe_unused]] uint32_t group,
                            [[maybe_unused]] size_t count, [[maybe_unused]] plan::DType dtype) const {
    return false;
  }

  /// What was captured of its calls is destroyed by `release`, which is called before the communicator ends: on the
  /// rank's thread, also where that is in the middle of a call.
  virtual void whenEnding([[maybe_unused]] std::function<void()> release) {}

  /// The end of a step: returns when every call has been carried out, on `stream` too where peers may keep it from
  /// ending.
  virtual Status settle([[maybe_unused]] void *stream) { return {}; }
  /// In the middle of one: returns when `stream` has done what is queued on it, as far as peers may keep it from that.
  /// What was sent may still be on its way. To be called before the host blocks on the stream, by a copy too.
  virtual Status wait([[maybe_unused]] void *stream) { return {}; }

  /// Ends all waits of all ranks with `failure`, unless there was one before. Callable from any thread.
  virtual void abort(const Status &failure) = 0;
  /// The first failure of all ranks; ok while there is none. Cheap while there is none.
  virtual Status failure() const = 0;
};

} // namespace distc
