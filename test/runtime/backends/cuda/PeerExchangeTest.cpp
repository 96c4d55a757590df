// Two ranks with a device each. What processes exchange is in test/e2e/check_ranks.py.
#include "runtime/backends/cuda/PeerExchange.h"

#include "DeviceTest.h"
#include "Ranks.h"
#include "TinyModel.h"
#include "runtime/backends/cuda/Nccl.h"
#include "runtime/comm/World.h"
#include "runtime/schema/PlanFile.h"

namespace distc::test {
namespace {

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

  TinyModel model{1, {.tp = 2}};
  std::vector<std::vector<uint8_t>> payloads;
  std::vector<const plan::Plan *> plans;
};

// Two devices in one process: all goes through NCCL, whatever its length, and nothing is captured.
TEST_F(CudaPeerExchange, RanksOfOneProcessAgreeOnNccl) {
  const auto statuses = run(20, [&](uint32_t rank, Communicator &communicator) -> Status {
    EXPECT_FALSE(communicator.isReplayable(plan::Op::AllReduce, 0, 1, plan::DType::F32));
    cuda::Stream stream;
    DISTC_TRY(stream.create());
    DISTC_ASSIGN(const cuda::Memory memory, cuda::Memory::allocate(cuda::Memory::Kind::Device, 400, "test"));
    const std::vector<float> values(100, float(rank) + 1);
    std::vector<float> sums(100);
    DISTC_TRY(cuda::check(cudaMemcpy(memory.data(), values.data(), 400, cudaMemcpyDefault), "copy"));
    DISTC_TRY(communicator.allReduce({0, 0, 3, 7, "label", stream}, memory.data(), memory.data(), 100, plan::DType::F32,
                                     plan::ReduceOp::Sum));
    DISTC_TRY(communicator.settle(stream));
    DISTC_TRY(cuda::check(cudaMemcpy(sums.data(), memory.data(), 400, cudaMemcpyDefault), "copy"));
    EXPECT_EQ(sums, std::vector<float>(100, 3.0f));
    return {};
  });
  for (const Status &status : statuses)
    EXPECT_TRUE(status.ok()) << status.message();
}

} // namespace
} // namespace distc::test
