// Exchange between ranks that share one device: their streams are ordered by events, and the host never waits for the
// device.
#include "runtime/backends/cuda/CudaBackend.h"
#include "runtime/comm/CommMemory.h"
#include "runtime/schema/PlanFile.h"

#include <mutex>

namespace distc {

namespace {

class DeviceMemory : public CommMemory {
public:
  Event createEvent() override {
    cudaEvent_t event = nullptr;
    note(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "create an event");
    return event;
  }
  void destroyEvent(Event event) override {
    if (event)
      (void)cudaEventDestroy(static_cast<cudaEvent_t>(event));
  }
  void record(Event event, Stream stream) override {
    note(cudaEventRecord(static_cast<cudaEvent_t>(event), static_cast<cudaStream_t>(stream)), "record an event");
  }
  void wait(Event event, Stream stream) override {
    note(cudaStreamWaitEvent(static_cast<cudaStream_t>(stream), static_cast<cudaEvent_t>(event), 0), "order streams");
  }
  std::byte *allocate(size_t bytes) override {
    void *data = nullptr;
    if (cudaMalloc(&data, bytes) != cudaSuccess)
      (void)cudaGetLastError();
    return static_cast<std::byte *>(data);
  }
  void free(std::byte *data) override { (void)cudaFree(data); }
  void copy(void *out, const void *in, size_t bytes, Stream stream) override {
    if (bytes != 0)
      note(cudaMemcpyAsync(out, in, bytes, cudaMemcpyDeviceToDevice, static_cast<cudaStream_t>(stream)), "copy");
  }
  void zero(void *out, size_t bytes, Stream stream) override {
    if (bytes != 0)
      note(cudaMemsetAsync(out, 0, bytes, static_cast<cudaStream_t>(stream)), "clear");
  }
  bool canReduce(plan::DType dtype) const override { return dtype <= plan::DType::BF16; }
  void reduce(std::span<const void *const> ins, std::span<void *const> outs, size_t begin, size_t end, size_t shift,
              plan::DType dtype, plan::ReduceOp op, Stream stream) override {
    if (begin >= end)
      return;
    if (ins.size() > cuda::maxPeers)
      return note(cudaErrorInvalidValue, "reduce over more than 16 ranks");
    const size_t size = dtypeBytes(dtype);
    cuda::Peers peers{{}, static_cast<int>(ins.size())};
    for (size_t i = 0; i < ins.size(); ++i)
      peers.data[i] = static_cast<const std::byte *>(ins[i]) + begin * size;
    auto at = [&](void *out) { return static_cast<std::byte *>(out) + (begin - shift) * size; };
    note(cuda::reduce(peers, op == plan::ReduceOp::Sum ? cuda::ReduceOp::Sum : cuda::ReduceOp::Max,
                      static_cast<int64_t>(end - begin), {at(outs[0]), typeOf(dtype)},
                      static_cast<cudaStream_t>(stream)),
         "reduce");
    for (void *out : outs.subspan(1))
      copy(at(out), at(outs[0]), (end - begin) * size, stream);
  }
  Status status() const override {
    std::lock_guard lock(mutex_);
    return status_;
  }

private:
  void note(cudaError_t error, const char *what) {
    if (error == cudaSuccess)
      return;
    std::lock_guard lock(mutex_);
    if (status_.ok())
      status_ = cuda::check(error, what);
  }

  mutable std::mutex mutex_;
  Status status_;
};

} // namespace

std::shared_ptr<CommMemory> createDeviceMemory() { return std::make_shared<DeviceMemory>(); }

} // namespace distc
