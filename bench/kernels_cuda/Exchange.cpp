// All-reduces between devices: of decode steps through their memory, longer ones through NCCL.
#include "bench/kernels_cuda/Bench.h"

#include "distc/kernels/CudaExchange.h"
#include "runtime/backends/cuda/NcclLibrary.h"

#include <algorithm>
#include <barrier>
#include <dlfcn.h>
#include <functional>
#include <thread>
#include <vector>

namespace distc::bench {

namespace {

constexpr int64_t shortest = 8 << 10, longest = 64 << 20;

template <class T> T *zeros(size_t bytes) {
  void *memory;
  CHECK(cudaMalloc(&memory, bytes));
  CHECK(cudaMemset(memory, 0, bytes));
  CHECK(cudaDeviceSynchronize());
  return static_cast<T *>(memory);
}

/// NCCL's own all-reduce of bf16 (ncclBfloat16, ncclSum), which the runtime does not use: its order of adding is its
/// own.
using NcclAllReduce = nccl::Code (*)(const void *in, void *out, size_t count, int type, int op, nccl::Comm comm,
                                     cudaStream_t stream);
constexpr int ncclBfloat16 = 9, ncclSum = 0;

/// What the threads of the members share.
struct Shared {
  explicit Shared(int members) : members(members), barrier(members) {}
  const int members;
  std::barrier<> barrier;
  void *inboxes[cuda::maxPeers] = {};
  const nccl::Library *nccl = nullptr;
  nccl::UniqueId id{};
  NcclAllReduce allReduce = nullptr;
};

/// One member, on its thread.
class Member {
public:
  Member(Shared &shared, int self) : shared(shared), members(shared.members), self(self) {
    CHECK(cudaSetDevice(self));
    for (int peer = 0; peer < members; ++peer)
      if (peer != self && cudaDeviceEnablePeerAccess(peer, 0) != cudaSuccess)
        (void)cudaGetLastError(); // it is on
    CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    x = zeros<char>(longest);
    y = zeros<char>(longest);
    parts = zeros<char>(size_t(2 * longest)); // all of every member's short message, or of a long one every share
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
  double microseconds(bool captured, int64_t bytes, const std::function<bool()> &call) {
    const int calls = bytes > (1 << 20) ? 10 : 100, replays = 20;
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
    for (int64_t bytes = shortest; bytes <= longest; bytes *= bytes < (1 << 20) ? 2 : 4) {
      const int64_t n = bytes / 2;
      const double ours = bytes > cuda::maxExchangeBytes ? -1 : microseconds(true, bytes, [&] {
        return cuda::exchangeReduce(exchange, cuda::ExchangePart::Both, cuda::ReduceOp::Sum, {x, cuda::Type::BF16}, n,
                                    {y, cuda::Type::BF16}, 1, stream) == cudaSuccess;
      });
      const double queued = connected ? microseconds(false, bytes, [&] { return asRuntime(bytes); }) : -1;
      const bool hasPeer = connected && shared.allReduce;
      auto theirs = [&] { return done(shared.allReduce(x, y, size_t(n), ncclBfloat16, ncclSum, comm, stream)); };
      const double peer = hasPeer ? microseconds(false, bytes, theirs) : -1;
      const double peerCaptured = hasPeer ? microseconds(true, bytes, theirs) : -1;
      if (self == 0) {
        // Of a ring, or of shares: each device sends and receives so much of the message.
        auto bus = [&](double us) { return us < 0 ? 0 : 2e-3 * (members - 1) / members * double(bytes) / us; };
        std::printf(
            "all-reduce %5d KB on %d devices: one kernel %7.2f us; over NCCL in rank order %8.2f us, %6.1f GB/s; "
            "ncclAllReduce %8.2f us, %6.1f GB/s, in a graph %8.2f us\n",
            int(bytes >> 10), members, ours, queued, bus(queued), peer, bus(peer), peerCaptured);
      }
    }
  }

private:
  /// An all-reduce in the order of the members, as the runtime makes one that is not captured (backends/cuda/Nccl.cpp).
  bool asRuntime(int64_t bytes) {
    cuda::Peers peers{{}, members};
    if (members * bytes <= 512 << 10) {
      for (int m = 0; m < members; ++m)
        peers.data[m] = parts + m * bytes;
      return done(shared.nccl->allGather(x, parts, size_t(bytes), nccl::Type::Bytes, comm, stream)) &&
             cuda::reduce(peers, cuda::ReduceOp::Sum, bytes / 2, {y, cuda::Type::BF16}, stream) == cudaSuccess;
    }
    const int64_t part = bytes / members;
    char *mine = y + self * part;
    for (int m = 0; m < members; ++m)
      peers.data[m] = m == self ? x + self * part : parts + m * part;
    return toAll([&](int m) { return x + m * part; }, [&](int m) { return parts + m * part; }, part) &&
           cuda::reduce(peers, cuda::ReduceOp::Sum, part / 2, {mine, cuda::Type::BF16}, stream) == cudaSuccess &&
           toAll([&](int) { return mine; }, [&](int m) { return y + m * part; }, part);
  }

  template <class From, class To> bool toAll(From from, To to, int64_t bytes) {
    bool good = done(shared.nccl->groupStart());
    for (int m = 0; m < members; ++m)
      if (m != self) {
        (void)shared.nccl->send(from(m), size_t(bytes), nccl::Type::Bytes, m, comm, stream);
        (void)shared.nccl->recv(to(m), size_t(bytes), nccl::Type::Bytes, m, comm, stream);
      }
    return done(shared.nccl->groupEnd()) && good;
  }

  bool done(nccl::Code code) const {
    while (code == nccl::Code::InProgress)
      if (shared.nccl->commGetAsyncError(comm, &code) != nccl::Code::Success)
        return false;
    return code == nccl::Code::Success;
  }

  Shared &shared;
  const int members, self;
  cudaStream_t stream = nullptr;
  char *x = nullptr, *y = nullptr, *parts = nullptr;
  cuda::Exchange exchange{};
  nccl::Comm comm = nullptr;
  bool connected = false;
};

} // namespace

void allReduces() {
  int devices = 0, can = 0;
  CHECK(cudaGetDeviceCount(&devices));
  if (devices < 2 || cudaDeviceCanAccessPeer(&can, 0, 1) != cudaSuccess || can == 0)
    return;
  for (int members = 2; members <= devices; members *= 2) {
    Shared shared(members);
    if (const Result<const nccl::Library *> library = nccl::library(); library.ok())
      shared.nccl = *library;
    else
      std::printf("%s\n", library.status().message().c_str());
    if (shared.nccl && shared.nccl->getUniqueId(&shared.id) != nccl::Code::Success)
      shared.nccl = nullptr;
    if (void *nccl = dlopen("libnccl.so.2", RTLD_LAZY | RTLD_NOLOAD))
      shared.allReduce = reinterpret_cast<NcclAllReduce>(dlsym(nccl, "ncclAllReduce"));
    std::vector<std::thread> threads;
    for (int m = 0; m < members; ++m)
      threads.emplace_back([&shared, m] { Member(shared, m).run(); });
    for (std::thread &thread : threads)
      thread.join();
  }
  CHECK(cudaSetDevice(0));
}

} // namespace distc::bench
