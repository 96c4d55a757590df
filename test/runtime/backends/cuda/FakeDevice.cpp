#include "FakeDevice.h"

#include "distc/kernels/Cuda.h"
#include "distc/kernels/CudaExchange.h"
#include "runtime/backends/cuda/NcclLibrary.h"

#include <cstdlib>
#include <cstring>

// The handles' own types, which are nobody else's business.
struct CUstream_st {
  bool waits = false; // for peers
};
struct CUevent_st {
  bool waits = false; // recorded behind such a wait
};

namespace distc::test {

FakeDevice fakeDevice;

namespace {

cudaError_t stateOf(bool waits) {
  if (fakeDevice.fault != cudaSuccess)
    return fakeDevice.fault;
  return waits && !fakeDevice.isAborted ? cudaErrorNotReady : cudaSuccess;
}

cudaError_t allocate(void **p, size_t bytes) {
  *p = std::aligned_alloc(256, (bytes + 255) / 256 * 256);
  return cudaSuccess;
}
cudaError_t release(void *p) {
  std::free(p);
  return cudaSuccess;
}

nccl::Code queue(cudaStream_t stream) {
  stream->waits = stream->waits || !fakeDevice.peersCome;
  return nccl::Code::Success;
}

// A communicator is the number of its ranks.
int ranksOf(nccl::Comm comm) { return static_cast<int>(reinterpret_cast<intptr_t>(comm)); }

const nccl::Library fakeNccl = [] {
  using nccl::Code, nccl::Comm, nccl::Config, nccl::Type, nccl::UniqueId;
  nccl::Library l{};
  l.getUniqueId = [](UniqueId *) { return Code::Success; };
  l.commInitRankConfig = [](Comm *comm, int ranks, UniqueId, int, Config *) {
    *comm = reinterpret_cast<Comm>(intptr_t(ranks));
    return Code::Success;
  };
  l.commAbort = [](Comm) {
    fakeDevice.isAborted = true;
    return Code::Success;
  };
  l.commGetAsyncError = [](Comm, Code *code) {
    *code = Code::Success;
    return Code::Success;
  };
  l.getErrorString = [](Code) { return "an error"; };
  l.getLastError = [](Comm) { return ""; };
  l.groupStart = [] { return Code::Success; };
  l.groupEnd = [] { return Code::Success; };
  // The others say what this rank says.
  l.allGather = [](const void *in, void *out, size_t count, Type, Comm comm, cudaStream_t stream) {
    for (int m = 0; m < ranksOf(comm); ++m)
      std::memmove(static_cast<std::byte *>(out) + size_t(m) * count, in, count);
    return queue(stream);
  };
  l.send = [](const void *, size_t, Type, int, Comm, cudaStream_t stream) { return queue(stream); };
  l.recv = [](void *, size_t, Type, int, Comm, cudaStream_t stream) { return queue(stream); };
  return l;
}();

} // namespace
} // namespace distc::test

using namespace distc::test;

namespace distc::nccl {
Result<const Library *> library() { return &fakeNccl; }
} // namespace distc::nccl

namespace distc::cuda {

cudaError_t hasCode() { return cudaSuccess; }
cudaError_t reduce(const Peers &, ReduceOp, int64_t, Out, cudaStream_t) { return cudaSuccess; }
cudaError_t store(uint32_t *, uint32_t, cudaStream_t) { return cudaSuccess; }

// Nobody's memory can be mapped.
cudaError_t prepareExchange() { return cudaErrorNotSupported; }
cudaError_t exchangeReduce(const Exchange &, ExchangePart, ReduceOp, In, int64_t, Out, uint32_t, cudaStream_t) {
  return cudaErrorNotSupported;
}
cudaError_t exchangeGather(const Exchange &, ExchangePart, const void *, int64_t, void *, int64_t, uint32_t,
                           cudaStream_t) {
  return cudaErrorNotSupported;
}

} // namespace distc::cuda

extern "C" {

cudaError_t cudaMemPoolCreate(cudaMemPool_t *, const cudaMemPoolProps *) { return cudaErrorNotSupported; }
cudaError_t cudaMemPoolSetAccess(cudaMemPool_t, const cudaMemAccessDesc *, size_t) { return cudaErrorNotSupported; }
cudaError_t cudaMemPoolDestroy(cudaMemPool_t) { return cudaErrorNotSupported; }
cudaError_t cudaMallocFromPoolAsync(void **, size_t, cudaMemPool_t, cudaStream_t) { return cudaErrorNotSupported; }
cudaError_t cudaIpcGetMemHandle(cudaIpcMemHandle_t *, void *) { return cudaErrorNotSupported; }
cudaError_t cudaIpcOpenMemHandle(void **, cudaIpcMemHandle_t, unsigned) { return cudaErrorNotSupported; }
cudaError_t cudaIpcCloseMemHandle(void *) { return cudaErrorNotSupported; }

cudaError_t cudaGetDeviceCount(int *count) {
  *count = 1;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int) { return cudaSuccess; }
cudaError_t cudaDriverGetVersion(int *) { return cudaErrorNotSupported; }
cudaError_t cudaGetDeviceProperties(cudaDeviceProp *, int) { return cudaErrorNotSupported; }
cudaError_t cudaGetLastError() { return cudaSuccess; }
const char *cudaGetErrorString(cudaError_t) { return "an error of the fake device"; }
const char *cudaGetErrorName(cudaError_t) { return "fake"; }

cudaError_t cudaMalloc(void **p, size_t bytes) { return allocate(p, bytes); }
cudaError_t cudaMallocHost(void **p, size_t bytes) { return allocate(p, bytes); }
cudaError_t cudaFree(void *p) { return release(p); }
cudaError_t cudaFreeHost(void *p) { return release(p); }
cudaError_t cudaMemGetInfo(size_t *, size_t *) { return cudaErrorNotSupported; }
cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, cudaMemcpyKind) {
  std::memmove(to, from, bytes);
  return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind, cudaStream_t) {
  return cudaMemcpy(to, from, bytes, kind);
}
cudaError_t cudaMemset(void *p, int value, size_t bytes) {
  std::memset(p, value, bytes);
  return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void *p, int value, size_t bytes, cudaStream_t) { return cudaMemset(p, value, bytes); }

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned) {
  *stream = new CUstream_st;
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  delete stream;
  return cudaSuccess;
}
cudaError_t cudaStreamIsCapturing(cudaStream_t, cudaStreamCaptureStatus *status) {
  *status = cudaStreamCaptureStatusNone;
  return cudaSuccess;
}
cudaError_t cudaStreamQuery(cudaStream_t stream) { return stateOf(stream->waits); }
cudaError_t cudaStreamSynchronize(cudaStream_t stream) { return stateOf(stream->waits); }
cudaError_t cudaDeviceSynchronize() { return cudaSuccess; }
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  stream->waits = stream->waits || event->waits;
  return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned) {
  *event = new CUevent_st;
  return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  event->waits = stream->waits;
  return cudaSuccess;
}
cudaError_t cudaEventQuery(cudaEvent_t event) { return stateOf(event->waits); }

} // extern "C"
