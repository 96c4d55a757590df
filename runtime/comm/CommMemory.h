// CommMemory: the memory that ranks of one process exchange, and the order of work on it. Host memory is one kind:
// there a call is done when it returns, and streams and events are nothing. On a device, work is queued on streams, and
// events order the streams of different ranks; no call of this interface waits for the device.
#pragma once

#include "distc/Status.h"
#include "runtime/schema/plan_generated.h"

#include <cstddef>
#include <memory>
#include <span>

namespace distc {

class CommMemory {
public:
  using Stream = void *; // CommCall::stream
  using Event = void *;

  virtual ~CommMemory() = default;

  virtual Event createEvent() = 0;
  virtual void destroyEvent(Event event) = 0;
  /// `event` happens when all that is on `stream` now is done.
  virtual void record(Event event, Stream stream) = 0;
  /// What comes on `stream` from now on waits for `event` as it was recorded last.
  virtual void wait(Event event, Stream stream) = 0;

  virtual std::byte *allocate(size_t bytes) = 0; // null: there is none left
  virtual void free(std::byte *data) = 0;
  virtual void copy(void *out, const void *in, size_t bytes, Stream stream) = 0;
  virtual void zero(void *out, size_t bytes, Stream stream) = 0;

  virtual bool canReduce(plan::DType dtype) const = 0;
  /// For each i in [begin, end): value = ins[0][i] op ins[1][i] op …, written to element i - shift of every one of
  /// `outs`. An out may be one of the ins.
  virtual void reduce(std::span<const void *const> ins, std::span<void *const> outs, size_t begin, size_t end,
                      size_t shift, plan::DType dtype, plan::ReduceOp op, Stream stream) = 0;

  /// The first error of the calls above, since they return nothing.
  virtual Status status() const = 0;
};

/// Host memory; reductions of F32 and I32 (Reduce.h).
std::unique_ptr<CommMemory> createHostMemory();

} // namespace distc
