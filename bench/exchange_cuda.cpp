#include "bench/exchange_cuda.h"

#include "distc/kernels/CudaExchange.h"
#include "runtime/backends/cuda/NcclLibrary.h"

#include <algorithm>
#include <barrier>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <thread>
#include <vector>

namespace distc::bench {

namespace {

constexpr int members = 2, calls = 100, replays = 30;
constexpr int64_t longest = cuda::maxExchangeBytes;

void check(cudaError_t error, const char *what) {
  if (error == cudaSuccess)
    return;
  std::fprintf(stderr, "%s: %s\n", what, cudaGetErrorString(error));
  std::exit(1);
}
#define CHECK(call) check(call, #call)

template <class T> T *zeros(size_t bytes) {
  void *memory;
  CHECK(cudaMalloc(&memory, bytes));
  CHECK(cudaMemset(memory, 0, bytes));
  CHECK(cudaDeviceSynchronize());
  return static_cast<T *>(memory);
}

/// What the threads of the members share.
struct Shared {
  std::barrier<> barrier{members};
  void *inboxes[cuda::maxPeers] = {};
  const nccl::Library *nccl = nullptr;
  nccl::UniqueId id{};
};

/// One member, on its thread.
class Member {
public:
  Member(Shared &shared, int self) : shared(shared), self(self) {
    CHECK(cudaSetDevice(self));
    if (cudaDeviceEnablePeerAccess(1 - self, 0) != cudaSuccess)
      (void)cudaGetLastError(); // it is on
    CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    x = zeros<char>(longest);
    parts = zeros<char>(members * longest);
    shared.inboxes[self] = zeros<char>(size_t(cuda::inboxBytes(members)));
    exchange.calls = zeros<uint32_t>(2 * sizeof(uint32_t));
    void *host;
    CHECK(cudaMallocHost(&host, sizeof(cuda::ExchangeHost)));
    exchange.host = static_cast<cuda::ExchangeHost *>(host);
    *exchange.host = {};
    exchange.members = members;
    exchange.self = self;
    shared.barrier.arrive_and_wait();
    std::copy_n(shared.inboxes, members, exchange.inboxes);
    if (shared.nccl) {
      nccl::Config config;
      connected = done(shared.nccl->commInitRankConfig(&comm, members, shared.id, self, &config));
    }
  }

  /// Median microseconds of a call; negative: it failed.
  double microseconds(bool captured, const std::function<bool()> &call) {
    for (int i = 0; i < 10; ++i)
      if (!call())
        return -1;
    CHECK(cudaStreamSynchronize(stream));
    cudaGraphExec_t graph = nullptr;
    if (captured) {
      cudaGraph_t source;
      CHECK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
      bool good = true;
      for (int i = 0; i < calls; ++i)
        good = call() && good;
      if (cudaStreamEndCapture(stream, &source) != cudaSuccess || !good)
        return -1;
      CHECK(cudaGraphInstantiate(&graph, source, 0));
      CHECK(cudaGraphDestroy(source));
    }
    cudaEvent_t begin, end;
    CHECK(cudaEventCreate(&begin));
    CHECK(cudaEventCreate(&end));
    std::vector<double> times;
    for (int i = 0; i < replays; ++i) {
      shared.barrier.arrive_and_wait();
      CHECK(cudaEventRecord(begin, stream));
      if (graph)
        CHECK(cudaGraphLaunch(graph, stream));
      else
        for (int c = 0; c < calls; ++c)
          (void)call();
      CHECK(cudaEventRecord(end, stream));
      CHECK(cudaEventSynchronize(end));
      float milliseconds;
      CHECK(cudaEventElapsedTime(&milliseconds, begin, end));
      times.push_back(milliseconds * 1e3 / calls);
    }
    CHECK(cudaEventDestroy(begin));
    CHECK(cudaEventDestroy(end));
    if (graph)
      CHECK(cudaGraphExecDestroy(graph));
    std::nth_element(times.begin(), times.begin() + replays / 2, times.end());
    return times[replays / 2];
  }

  void run() {
    for (int64_t bytes = 8 << 10; bytes <= longest; bytes *= 2) {
      const int64_t n = bytes / 2;
      const cuda::Out out{x, cuda::Type::BF16};
      const double ours = microseconds(true, [&] {
        return cuda::exchangeReduce(exchange, cuda::ExchangePart::Both, cuda::ReduceOp::Sum, {x, out.type}, n, out, 1,
                                    stream) == cudaSuccess;
      });
      auto withNccl = [&] { // as the runtime does for longer messages
        const cuda::Peers peers{{parts, parts + bytes}, members};
        return done(shared.nccl->allGather(x, parts, size_t(bytes), nccl::Type::Bytes, comm, stream)) &&
               cuda::reduce(peers, cuda::ReduceOp::Sum, n, out, stream) == cudaSuccess;
      };
      const double captured = connected ? microseconds(true, withNccl) : -1;
      const double queued = connected ? microseconds(false, withNccl) : -1;
      if (self == 0)
        std::printf("all-reduce of %3d KB on 2 devices %21.2f us, NCCL %.2f us in a graph, %.2f us call by call\n",
                    int(bytes >> 10), ours, captured, queued);
    }
  }

private:
  bool done(nccl::Code code) const {
    while (code == nccl::Code::InProgress)
      if (shared.nccl->commGetAsyncError(comm, &code) != nccl::Code::Success)
        return false;
    return code == nccl::Code::Success;
  }

  Shared &shared;
  const int self;
  cudaStream_t stream = nullptr;
  char *x = nullptr, *parts = nullptr;
  cuda::Exchange exchange{};
  nccl::Comm comm = nullptr;
  bool connected = false;
};

} // namespace

void allReduces() {
  int devices = 0, can = 0;
  CHECK(cudaGetDeviceCount(&devices));
  if (devices < members || cudaDeviceCanAccessPeer(&can, 0, 1) != cudaSuccess || can == 0)
    return;
  Shared shared;
  if (const Result<const nccl::Library *> library = nccl::library(); library.ok())
    shared.nccl = *library;
  else
    std::printf("%s\n", library.status().message().c_str());
  if (shared.nccl && shared.nccl->getUniqueId(&shared.id) != nccl::Code::Success)
    shared.nccl = nullptr;
  std::vector<std::thread> threads;
  for (int m = 0; m < members; ++m)
    threads.emplace_back([&shared, m] { Member(shared, m).run(); });
  for (std::thread &thread : threads)
    thread.join();
  CHECK(cudaSetDevice(0));
}

} // namespace distc::bench
