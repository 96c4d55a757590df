#include "runtime/comm/CommMemory.h"
#include "runtime/comm/Reduce.h"

#include <cstring>
#include <new>

namespace distc {

namespace {

class HostMemory : public CommMemory {
public:
  Event createEvent() override { return nullptr; }
  void destroyEvent(Event) override {}
  void record(Event, Stream) override {}
  void wait(Event, Stream) override {}
  std::byte *allocate(size_t bytes) override { return new (std::nothrow) std::byte[bytes]; }
  void free(std::byte *data) override { delete[] data; }
  void copy(void *out, const void *in, size_t bytes, Stream) override {
    if (bytes != 0)
      std::memcpy(out, in, bytes);
  }
  void zero(void *out, size_t bytes, Stream) override {
    if (bytes != 0)
      std::memset(out, 0, bytes);
  }
  bool canReduce(plan::DType dtype) const override { return distc::canReduce(dtype); }
  void reduce(std::span<const void *const> ins, std::span<void *const> outs, size_t begin, size_t end, size_t shift,
              plan::DType dtype, plan::ReduceOp op, Stream) override {
    distc::reduce(ins, outs, begin, end, shift, dtype, op);
  }
  Status status() const override { return {}; }
};

} // namespace

std::unique_ptr<CommMemory> createHostMemory() { return std::make_unique<HostMemory>(); }

} // namespace distc
