// Exchange: members that share the device, whose launches the stream orders; and, where there are two devices, with
// kernels that wait for each other, in graphs.
#include "DeviceTest.h"
#include "distc/kernels/CudaExchange.h"

#include <chrono>
#include <thread>

namespace distc::cuda {
namespace {

/// Zeros on the device.
template <class T> T *zeros(size_t n) {
  void *memory = nullptr;
  EXPECT_CUDA(cudaMalloc(&memory, n * sizeof(T)));
  EXPECT_CUDA(cudaMemset(memory, 0, n * sizeof(T)));
  EXPECT_CUDA(cudaDeviceSynchronize());
  return static_cast<T *>(memory);
}

/// The members of a group, each with its memory on device `m % devices`.
struct Group {
  explicit Group(int members, int devices = 1) : members(members), devices(devices) {
    void *pinned = nullptr;
    EXPECT_CUDA(cudaMallocHost(&pinned, members * sizeof(ExchangeHost)));
    std::memset(pinned, 0, members * sizeof(ExchangeHost));
    hosts = static_cast<ExchangeHost *>(pinned);
    Exchange shared{};
    for (int m = 0; m < members; ++m) {
      EXPECT_CUDA(cudaSetDevice(m % devices));
      for (int other = 0; other < devices; ++other)
        if (other != m % devices)
          if (cudaDeviceEnablePeerAccess(other, 0) != cudaSuccess)
            (void)cudaGetLastError(); // it is on
      shared.inboxes[m] = zeros<char>(inboxBytes(members));
    }
    shared.members = members;
    for (int m = 0; m < members; ++m) {
      EXPECT_CUDA(cudaSetDevice(m % devices));
      Exchange e = shared;
      e.calls = zeros<uint32_t>(2);
      e.host = hosts + m;
      e.self = m;
      all.push_back(e);
    }
    EXPECT_CUDA(cudaSetDevice(0));
  }
  ~Group() {
    for (const Exchange &e : all) {
      EXPECT_CUDA(cudaFree(e.inboxes[e.self]));
      EXPECT_CUDA(cudaFree(e.calls));
    }
    EXPECT_CUDA(cudaFreeHost(hosts));
  }
  /// On one device: all push before the first receives.
  template <class Call> void inTurn(Call call) const {
    for (ExchangePart part : {ExchangePart::Push, ExchangePart::Receive})
      for (const Exchange &e : all)
        EXPECT_CUDA(call(e, part));
  }

  const int members, devices;
  ExchangeHost *hosts = nullptr;
  std::vector<Exchange> all;
};

using Values = std::vector<std::unique_ptr<DeviceValues>>;

class CudaExchangeTest : public DeviceTest {
protected:
  /// New contents for every member, and their sum in double.
  Values inputs(int members, int64_t n, Type type, bool shifted, std::vector<double> &sum) {
    Values result;
    sum.assign(n, 0);
    for (int m = 0; m < members; ++m) {
      const std::vector<float> values = rounded(normal(n), type);
      for (int64_t i = 0; i < n; ++i)
        sum[i] += values[i];
      result.push_back(std::make_unique<DeviceValues>(values, type, shifted));
    }
    return result;
  }
  /// Of an error: the sum's own, where it is rounded, and that of its terms, which may cancel.
  static double scale(const std::vector<double> &sum, int members) {
    double squares = 0;
    for (double v : sum)
      squares += v * v;
    return std::sqrt(squares) + std::sqrt(double(members) * double(sum.size()));
  }
  static Peers peersOf(const Values &values) {
    Peers peers{{}, int(values.size())};
    for (size_t m = 0; m < values.size(); ++m)
      peers.data[m] = values[m]->data();
    return peers;
  }
};

TEST_F(CudaExchangeTest, ReducesLikeReduceCallAfterCall) {
  for (int members : {1, 2, 4, 8, 16}) {
    const Group group(members);
    // Lengths go up and down: a call must not take words of one before. The longest have more pieces than threads.
    for (int64_t n : {1, 4096, 7, 16385, 3, 32768, 2049, 1, 30001, 5})
      for (Type type : types)
        for (bool shifted : {false, true}) {
          std::vector<double> sum;
          const Values in = inputs(members, n, type, shifted, sum);
          const DeviceValues expected(n, type), out(n, type, shifted);
          ASSERT_CUDA(reduce(peersOf(in), ReduceOp::Sum, n, expected, nullptr));
          EXPECT_LE(relativeError(expected.values().data(), sum, scale(sum, members)), bound(type, 1e-6));
          group.inTurn([&](const Exchange &e, ExchangePart part) {
            // One member to a place of its own, the others in place.
            return exchangeReduce(e, part, ReduceOp::Sum, *in[e.self], n, e.self == 0 ? Out(out) : Out(*in[e.self]), 1,
                                  nullptr);
          });
          EXPECT_EQ(out.bytes(), expected.bytes()) << members << " " << n;
          for (int m = 1; m < members; ++m)
            EXPECT_EQ(in[m]->bytes(), expected.bytes()) << members << " " << n << " at " << m;
        }
  }
}

TEST_F(CudaExchangeTest, Maximum) {
  const Group group(3);
  std::vector<double> sum;
  const Values in = inputs(3, 1000, Type::BF16, false, sum);
  const DeviceValues expected(1000, Type::BF16);
  ASSERT_CUDA(reduce(peersOf(in), ReduceOp::Max, 1000, expected, nullptr));
  group.inTurn([&](const Exchange &e, ExchangePart part) {
    return exchangeReduce(e, part, ReduceOp::Max, *in[e.self], 1000, *in[e.self], 1, nullptr);
  });
  for (const auto &out : in)
    EXPECT_EQ(out->bytes(), expected.bytes());
}

TEST_F(CudaExchangeTest, GathersInOrderAndBetweenSums) {
  for (int members : {2, 4, 8}) {
    const Group group(members);
    for (int64_t n : {1, 516, 7, 32768, 4128, 33})
      for (int64_t missing : {int64_t(0), n / 2}) {
        std::vector<double> sum;
        const Values in = inputs(members, n, Type::F32, n % 2 == 1, sum);
        const int64_t total = n * members - missing;
        Values outs;
        std::vector<unsigned char> expected;
        for (int m = 0; m < members; ++m) {
          outs.push_back(std::make_unique<DeviceValues>(total, Type::F32));
          const std::vector<unsigned char> bytes = in[m]->bytes();
          expected.insert(expected.end(), bytes.begin(), bytes.end());
        }
        expected.resize(total * sizeof(float));
        group.inTurn([&](const Exchange &e, ExchangePart part) {
          return exchangeGather(e, part, in[e.self]->data(), n, outs[e.self]->data(), total, 1, nullptr);
        });
        for (const auto &out : outs)
          EXPECT_EQ(out->bytes(), expected) << members << " " << n;
        group.inTurn([&](const Exchange &e, ExchangePart part) {
          return exchangeReduce(e, part, ReduceOp::Sum, *in[e.self], n, *in[e.self], 1, nullptr);
        });
        EXPECT_LE(relativeError(in[0]->values().data(), sum, scale(sum, members)), 1e-6);
        EXPECT_EQ(in[0]->bytes(), in[members - 1]->bytes());
      }
  }
}

// A peer that never pushes: the wait is told of, and the host ends it; a kernel behind it ends too.
TEST_F(CudaExchangeTest, HostEndsAWait) {
  const Group group(2);
  const DeviceValues x(100, Type::F32);
  const volatile ExchangeHost &host = group.hosts[1];
  cudaStream_t stream;
  ASSERT_CUDA(cudaDeviceSynchronize());
  ASSERT_CUDA(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  for (uint32_t note : {77, 78})
    ASSERT_CUDA(exchangeReduce(group.all[1], ExchangePart::Both, ReduceOp::Sum, x, 100, x, note, stream));
  const auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (host.waiting == 0 && std::chrono::steady_clock::now() < limit)
    std::this_thread::yield();
  EXPECT_EQ(host.waiting, 77u);
  EXPECT_EQ(cudaStreamQuery(stream), cudaErrorNotReady);
  static_cast<volatile uint32_t &>(group.hosts[1].abort) = 1;
  EXPECT_CUDA(cudaStreamSynchronize(stream));
  (void)cudaGetLastError();
  EXPECT_CUDA(cudaStreamDestroy(stream));
}

// One that comes late: what was told is taken back.
TEST_F(CudaExchangeTest, LatePeer) {
  const Group group(2);
  std::vector<double> sum;
  const Values in = inputs(2, 3000, Type::F32, false, sum);
  const volatile ExchangeHost &host = group.hosts[1];
  cudaStream_t stream;
  ASSERT_CUDA(cudaDeviceSynchronize());
  ASSERT_CUDA(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  ASSERT_CUDA(exchangeReduce(group.all[1], ExchangePart::Both, ReduceOp::Sum, *in[1], 3000, *in[1], 5, stream));
  const auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (host.waiting == 0 && std::chrono::steady_clock::now() < limit)
    std::this_thread::yield();
  EXPECT_EQ(host.waiting, 5u);
  ASSERT_CUDA(exchangeReduce(group.all[0], ExchangePart::Push, ReduceOp::Sum, *in[0], 3000, *in[0], 5, nullptr));
  EXPECT_CUDA(cudaStreamSynchronize(stream));
  EXPECT_EQ(host.waiting, 0u);
  EXPECT_LE(relativeError(in[1]->values().data(), sum), 1e-6);
  EXPECT_CUDA(cudaStreamDestroy(stream));
}

TEST_F(CudaExchangeTest, RefusesWhatItCannotDo) {
  const Group group(2);
  const DeviceValues x(1, Type::F32), half(1, Type::F16);
  const Exchange &e = group.all[0];
  auto reduced = [&](const Exchange &of, In in, int64_t n, uint32_t note) {
    return exchangeReduce(of, ExchangePart::Push, ReduceOp::Sum, in, n, x, note, nullptr);
  };
  EXPECT_EQ(reduced(e, half, 1, 1), cudaErrorInvalidValue);
  EXPECT_EQ(reduced(e, x, 1, 0), cudaErrorInvalidValue);
  EXPECT_EQ(reduced(e, x, maxExchangeBytes / 4 + 1, 1), cudaErrorInvalidValue);
  Exchange many = e;
  many.members = maxPeers + 1;
  EXPECT_EQ(reduced(many, x, 1, 1), cudaErrorInvalidValue);
  EXPECT_CUDA(reduced(e, x, 0, 1));
  EXPECT_EQ(exchangeGather(e, ExchangePart::Push, x.data(), maxExchangeBytes / 4 + 1, x.data(), 1, 1, nullptr),
            cudaErrorInvalidValue);
}

// Kernels of two devices that wait for each other, a thousand replays of a graph of several calls.
TEST_F(CudaExchangeTest, TwoDevices) {
  int devices = 0, can = 0;
  ASSERT_CUDA(cudaGetDeviceCount(&devices));
  if (devices < 2 || cudaDeviceCanAccessPeer(&can, 0, 1) != cudaSuccess || can == 0)
    GTEST_SKIP() << "no two devices that can use each other's memory";
  const Group group(2, 2);
  constexpr int64_t n = 4097;
  constexpr int calls = 6, replays = 1000;
  // After each call a member's value is the sum of both, so both double: 2^calls of the first sum, in f32 exactly.
  std::vector<double> sum(n, 0);
  std::vector<float *> values;
  std::vector<std::vector<float>> start;
  std::vector<cudaStream_t> streams(2);
  std::vector<cudaGraphExec_t> graphs(2);
  for (int m = 0; m < 2; ++m) {
    start.push_back(normal(n));
    for (int64_t i = 0; i < n; ++i)
      sum[i] += start[m][i];
    ASSERT_CUDA(cudaSetDevice(m));
    values.push_back(zeros<float>(n));
    ASSERT_CUDA(cudaStreamCreateWithFlags(&streams[m], cudaStreamNonBlocking));
  }
  auto call = [&](int m) {
    const Out x{values[m], Type::F32};
    return exchangeReduce(group.all[m], ExchangePart::Both, ReduceOp::Sum, {x.data, x.type}, n, x, 1, streams[m]);
  };
  for (int m = 0; m < 2; ++m) { // kernels are loaded before a capture
    ASSERT_CUDA(cudaSetDevice(m));
    ASSERT_CUDA(call(m));
  }
  for (int m = 0; m < 2; ++m)
    ASSERT_CUDA(cudaStreamSynchronize(streams[m]));
  for (int m = 0; m < 2; ++m) {
    ASSERT_CUDA(cudaSetDevice(m));
    cudaGraph_t graph;
    ASSERT_CUDA(cudaStreamBeginCapture(streams[m], cudaStreamCaptureModeThreadLocal));
    ASSERT_CUDA(cudaMemcpyAsync(values[m], start[m].data(), n * sizeof(float), cudaMemcpyHostToDevice, streams[m]));
    for (int i = 0; i < calls; ++i)
      ASSERT_CUDA(call(m));
    ASSERT_CUDA(cudaStreamEndCapture(streams[m], &graph));
    ASSERT_CUDA(cudaGraphInstantiate(&graphs[m], graph, 0));
    ASSERT_CUDA(cudaGraphDestroy(graph));
  }
  for (int replay = 0; replay < replays; ++replay)
    for (int m = 0; m < 2; ++m) {
      ASSERT_CUDA(cudaSetDevice(m));
      ASSERT_CUDA(cudaGraphLaunch(graphs[m], streams[m]));
    }
  std::vector<std::vector<float>> ends(2, std::vector<float>(n));
  for (int m = 0; m < 2; ++m) {
    ASSERT_CUDA(cudaSetDevice(m));
    ASSERT_CUDA(cudaStreamSynchronize(streams[m]));
    ASSERT_CUDA(cudaMemcpy(ends[m].data(), values[m], n * sizeof(float), cudaMemcpyDefault));
    ASSERT_CUDA(cudaGraphExecDestroy(graphs[m]));
    ASSERT_CUDA(cudaStreamDestroy(streams[m]));
    ASSERT_CUDA(cudaFree(values[m]));
  }
  for (double &v : sum)
    v *= 1 << (calls - 1);
  EXPECT_LE(relativeError(ends[0].data(), sum), 1e-6);
  EXPECT_EQ(ends[0], ends[1]);
  ASSERT_CUDA(cudaSetDevice(0));
}

} // namespace
} // namespace distc::cuda
