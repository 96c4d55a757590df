// Two ranks with a device each: short messages go through the memory of peers, long ones through NCCL.
#include "runtime/backends/cuda/PeerExchange.h"

#include "DeviceTest.h"
#include "Ranks.h"
#include "TinyModel.h"
#include "runtime/backends/cuda/Nccl.h"
#include "runtime/comm/World.h"
#include "runtime/schema/PlanFile.h"

#include <chrono>

namespace distc::test {
namespace {

using Clock = std::chrono::steady_clock;

class CudaPeerExchange : public DeviceTest {
protected:
  void SetUp() override {
    DeviceTest::SetUp();
    if (IsSkipped())
      return;
    int devices = 0, can = 0;
    if (cudaGetDeviceCount(&devices) != cudaSuccess || devices < 2 ||
        cudaDeviceCanAccessPeer(&can, 0, 1) != cudaSuccess || can == 0)
      GTEST_SKIP() << "no two devices that can use each other's memory";
    for (plan::PlanT *plan : model.plans())
      payloads.push_back(packPayload(*plan));
    for (const auto &payload : payloads)
      plans.push_back(flatbuffers::GetRoot<plan::Plan>(payload.data()));
  }

  /// Both ranks at once, each on a thread of its own, connected; how they ended.
  std::vector<Status> run(double timeoutSeconds, const std::function<Status(uint32_t, Communicator &)> &work) {
    const Result<std::vector<std::byte>> ids = openNccl(plans);
    if (!ids.ok())
      return {ids.status(), ids.status()};
    const auto world = std::make_shared<World>(InProcessOptions{.timeoutSeconds = timeoutSeconds});
    std::vector<std::unique_ptr<Communicator>> ranks;
    for (uint32_t r = 0; r < 2; ++r)
      ranks.push_back(joinNccl(plans, r, r, *ids, world));
    return runRanks(ranks, [&](uint32_t rank, Communicator &communicator) -> Status {
      Status status = communicator.connect();
      if (status.ok())
        status = work(rank, communicator);
      communicator.disconnect();
      return status;
    });
  }

  /// What `queue` puts on the stream, as a graph: where ranks share a process, short messages go through the memory of
  /// peers there alone.
  class Graph {
  public:
    Graph() = default;
    Graph(const Graph &) = delete;
    ~Graph() {
      if (executable)
        (void)cudaGraphExecDestroy(executable);
    }
    Status launch(cudaStream_t stream, const std::function<Status()> &queue);

  private:
    cudaGraphExec_t executable = nullptr;
  };

  static CommCall call(uint32_t instruction, cudaStream_t stream) { return {0, 0, 3, instruction, "label", stream}; }

  TinyModel model{1, {.tp = 2}};
  std::vector<std::vector<uint8_t>> payloads;
  std::vector<const plan::Plan *> plans;
};

Status CudaPeerExchange::Graph::launch(cudaStream_t stream, const std::function<Status()> &queue) {
  DISTC_TRY(cuda::check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "capture"));
  const Status status = queue();
  cudaGraph_t graph = nullptr;
  DISTC_TRY(cuda::check(cudaStreamEndCapture(stream, &graph), "capture"));
  DISTC_TRY(status);
  DISTC_TRY(cuda::check(cudaGraphInstantiate(&executable, graph, 0), "make a graph"));
  DISTC_TRY(cuda::check(cudaGraphDestroy(graph), "destroy a graph"));
  return cuda::check(cudaGraphLaunch(executable, stream), "launch");
}

TEST_F(CudaPeerExchange, ShortAndLongMessages) {
  constexpr size_t kLong = cuda::maxExchangeBytes / 4 + 1;
  const auto statuses = run(20, [&](uint32_t rank, Communicator &communicator) -> Status {
    EXPECT_TRUE(communicator.isReplayable(plan::Op::AllReduce, 0, kLong, plan::DType::F32));
    EXPECT_FALSE(communicator.isReplayable(plan::Op::Send, 0, 1, plan::DType::F32));
    cuda::Stream stream;
    DISTC_TRY(stream.create());
    DISTC_ASSIGN(const cuda::Memory memory, cuda::Memory::allocate(cuda::Memory::Kind::Device, 3 * kLong * 4, "test"));
    auto *x = reinterpret_cast<float *>(memory.data());
    for (const size_t n : {size_t(5), size_t(3000), size_t(1), kLong - 1, size_t(100)}) {
      std::vector<float> values(n), both(2 * n);
      for (size_t i = 0; i < n; ++i)
        values[i] = float(i % 97) + 1000.0f * float(rank);
      DISTC_TRY(cuda::check(cudaMemcpy(x, values.data(), n * 4, cudaMemcpyDefault), "copy"));
      Graph graph;
      DISTC_TRY(graph.launch(stream, [&]() -> Status {
        DISTC_TRY(communicator.allGather(call(1, stream), x, n, x + n, 2 * n, plan::DType::F32));
        return communicator.allReduce(call(2, stream), x, x, n, plan::DType::F32, plan::ReduceOp::Sum);
      }));
      DISTC_TRY(communicator.settle(stream));
      DISTC_TRY(cuda::check(cudaMemcpy(values.data(), x, n * 4, cudaMemcpyDefault), "copy"));
      DISTC_TRY(cuda::check(cudaMemcpy(both.data(), x + n, 2 * n * 4, cudaMemcpyDefault), "copy"));
      for (size_t i = 0; i < n; ++i) {
        EXPECT_EQ(values[i], 2 * float(i % 97) + 1000.0f) << n << " at " << i;
        EXPECT_EQ(both[i], float(i % 97)) << n << " at " << i;
        EXPECT_EQ(both[n + i], float(i % 97) + 1000.0f) << n << " at " << i;
      }
    }
    // By NCCL: what is not captured, and what is longer than a slot.
    DISTC_TRY(communicator.allReduce(call(3, stream), x, x, 5, plan::DType::F32, plan::ReduceOp::Sum));
    DISTC_TRY(communicator.allGather(call(4, stream), x, kLong, x + kLong, 2 * kLong, plan::DType::F32));
    DISTC_TRY(communicator.settle(stream));
    float sum = 0;
    DISTC_TRY(cuda::check(cudaMemcpy(&sum, x + 4, sizeof(sum), cudaMemcpyDefault), "copy"));
    EXPECT_EQ(sum, 2 * (2 * 4.0f + 1000.0f));
    return {};
  });
  for (const Status &status : statuses)
    EXPECT_TRUE(status.ok()) << status.message();
}

TEST_F(CudaPeerExchange, APeerThatDoesNotComeIsToldOf) {
  const auto begin = Clock::now();
  const auto statuses = run(1, [&](uint32_t rank, Communicator &communicator) -> Status {
    cuda::Stream stream;
    DISTC_TRY(stream.create());
    DISTC_ASSIGN(const cuda::Memory memory, cuda::Memory::allocate(cuda::Memory::Kind::Device, 400, "test"));
    Graph graph;
    DISTC_TRY(graph.launch(stream, [&]() -> Status {
      for (uint32_t instruction = 7; instruction < (rank == 0 ? 10 : 8); ++instruction)
        DISTC_TRY(communicator.allReduce(call(instruction, stream), memory.data(), memory.data(), 100, plan::DType::F32,
                                         plan::ReduceOp::Sum));
      return {};
    }));
    if (rank == 1) {
      DISTC_TRY(communicator.settle(stream));
      while (communicator.failure().ok())
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
      return communicator.failure();
    }
    return communicator.settle(stream);
  });
  for (const Status &status : statuses)
    EXPECT_TRUE(status.message().find("rank 0: instruction 8 (label): all_reduce #3 of group") != std::string::npos &&
                status.message().find("waited 1 s for its peers") != std::string::npos)
        << status.message();
  EXPECT_LT(Clock::now() - begin, std::chrono::seconds(15)); // most of it is NCCL's to connect
}

TEST_F(CudaPeerExchange, AFailureOfAnotherEndsAWait) {
  const auto statuses = run(60, [&](uint32_t rank, Communicator &communicator) -> Status {
    cuda::Stream stream;
    DISTC_TRY(stream.create());
    DISTC_ASSIGN(const cuda::Memory memory, cuda::Memory::allocate(cuda::Memory::Kind::Device, 400, "test"));
    if (rank == 1) {
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
      communicator.abort(internal("rank 1 has failed"));
      return communicator.failure();
    }
    Graph graph;
    DISTC_TRY(graph.launch(stream, [&] {
      return communicator.allReduce(call(7, stream), memory.data(), memory.data(), 100, plan::DType::F32,
                                    plan::ReduceOp::Sum);
    }));
    return communicator.settle(stream);
  });
  for (const Status &status : statuses)
    EXPECT_EQ(status.message(), "rank 1 has failed");
}

} // namespace
} // namespace distc::test
