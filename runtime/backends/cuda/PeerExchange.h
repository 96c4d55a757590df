// Short collectives of one group through the memory of its members (kernels/CudaExchange.h), where all are ranks of
// this process, or all are processes of one host, and their devices can map each other's memory. A call is one kernel
// that waits on the device, so it may be captured and replayed; the host asks who waits, and ends all waits.
#pragma once

#include "distc/kernels/CudaExchange.h"
#include "runtime/backends/cuda/Device.h"
#include "runtime/comm/Communicator.h"

#include <functional>
#include <map>
#include <span>
#include <vector>

namespace distc::cuda {

class PeerExchange {
public:
  /// Takes one member's bytes, gives those of all, in member order; as many of each.
  using Tell = std::function<Result<std::vector<std::byte>>(std::span<const std::byte> mine)>;

  /// A call that was made, as errors tell of it.
  struct Made {
    CommCall call;
    const char *op;
  };

  /// Of member `self`, on `device`, which is the thread's. All members call it at the same place, and agree: either all
  /// can use what results, or isUsable is false for all. `what` names the rank, for errors.
  static Result<PeerExchange> connect(uint32_t members, uint32_t self, uint32_t device, const Tell &tell,
                                      const std::string &what);

  PeerExchange() = default;
  PeerExchange(PeerExchange &&) = default;
  PeerExchange &operator=(PeerExchange &&) = default;

  bool isUsable() const { return exchange_.members > 0; }
  /// Whether a collective of so many elements of each member can be done; the same for all members.
  bool takes(plan::Op op, size_t count, plan::DType dtype) const;
  /// Whether it may be queued on the stream as it is now. Where members share a process, into a capture alone: the
  /// kernels of a captured step were all launched before, while the first launch of one loads it, for which the thread
  /// may wait until its device is idle, and threads of other devices for that thread.
  bool mayQueue(void *stream) const;

  /// As Communicator's; queued on call.stream. What they take is up to takes().
  Status allReduce(const CommCall &call, const void *in, void *out, size_t count, plan::DType dtype, plan::ReduceOp op);
  Status allGather(const CommCall &call, const void *in, size_t inCount, void *out, size_t outCount);

  /// The call in which the device has waited for some milliseconds; null: there is none.
  const Made *waiting() const;
  /// Ends all waits for good, also of kernels yet to run. Their results are worth nothing. Callable from any thread.
  void abort();

  /// Frees everything. The device is idle. Where a call has not ended well, others may yet write to this member's
  /// memory: then it stays until the process ends.
  void close(bool endedWell);

private:
  uint32_t noteOf(const CommCall &call, const char *op);

  Exchange exchange_{};
  Memory inbox_, host_; // the inbox, and the counts behind it
  std::vector<void *> opened_;
  bool sharesProcess_ = false;
  std::map<uint32_t, Made> made_; // by note
};

} // namespace distc::cuda
