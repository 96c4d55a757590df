// How a rank with a device of its own waits for its peers, at the end of a step and in the middle: over a fake device,
// so anywhere.
#include "runtime/backends/cuda/Nccl.h"

#include "FakeDevice.h"
#include "TinyModel.h"
#include "runtime/backends/cuda/Device.h"
#include "runtime/comm/World.h"
#include "runtime/schema/PlanFile.h"

#include <gmock/gmock.h>
#include <thread>

namespace distc::test {
namespace {

using ::testing::AllOf;
using ::testing::EndsWith;
using ::testing::HasSubstr;

enum class Wait { AtTheEnd, InTheMiddle };

class CudaNccl : public ::testing::TestWithParam<Wait> {
protected:
  ~CudaNccl() override {
    if (rank)
      rank->disconnect();
  }

  /// Rank 0 of two stages of two ranks, connected.
  void connect(double timeoutSeconds) {
    for (plan::PlanT *plan : model.plans())
      payloads.push_back(packPayload(*plan));
    for (const auto &payload : payloads)
      plans.push_back(flatbuffers::GetRoot<plan::Plan>(payload.data()));
    world = std::make_shared<World>(InProcessOptions{.timeoutSeconds = timeoutSeconds});
    fakeDevice.peersCome = true;
    fakeDevice.isAborted = false;
    fakeDevice.fault = cudaSuccess;
    const Result<std::vector<std::byte>> ids = openNccl(plans);
    ASSERT_TRUE(ids.ok()) << ids.status().message();
    rank = joinNccl(plans, 0, 0, *ids, world);
    const Status status = rank->connect();
    ASSERT_TRUE(status.ok()) << status.message();
    ASSERT_TRUE(stream.create().ok());
  }

  Status reduce(uint32_t instruction) {
    return rank->allReduce({0, 0, 3, instruction, "label", stream}, x, x, std::size(x), plan::DType::F32,
                           plan::ReduceOp::Sum);
  }
  Status send(uint32_t instruction) {
    return rank->send({1, 0, 0, instruction, "label", stream}, 1, x, std::size(x), plan::DType::F32);
  }
  Status wait(Wait how) { return how == Wait::AtTheEnd ? rank->settle(stream) : rank->wait(stream); }

  TinyModel model{1, {.tp = 2, .pp = 2}};
  std::vector<std::vector<uint8_t>> payloads;
  std::vector<const plan::Plan *> plans;
  std::shared_ptr<World> world;
  std::unique_ptr<Communicator> rank;
  cuda::Stream stream;
  float x[8] = {};
};

TEST_P(CudaNccl, EndsWhenThePeersHaveCome) {
  connect(60);
  for (int step = 0; step < 3; ++step) {
    ASSERT_TRUE(reduce(7).ok());
    ASSERT_TRUE(send(8).ok());
    EXPECT_TRUE(wait(GetParam()).ok());
    EXPECT_TRUE(reduce(9).ok());
    EXPECT_TRUE(rank->settle(stream).ok());
  }
  EXPECT_FALSE(fakeDevice.isAborted);
}

TEST_P(CudaNccl, AFailureOfAnotherEndsAWait) {
  connect(60);
  ASSERT_TRUE(reduce(7).ok());
  fakeDevice.peersCome = false;
  ASSERT_TRUE(reduce(8).ok());
  std::thread other([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    world->record(internal("rank 1 is lost"));
  });
  EXPECT_EQ(wait(GetParam()).message(), "rank 1 is lost");
  EXPECT_TRUE(fakeDevice.isAborted); // or the device would be at it for ever
  other.join();
}

TEST_P(CudaNccl, APeerThatDoesNotComeIsToldOf) {
  connect(.05);
  ASSERT_TRUE(reduce(7).ok());
  fakeDevice.peersCome = false;
  ASSERT_TRUE(reduce(8).ok());
  ASSERT_TRUE(reduce(9).ok());
  const Status status = wait(GetParam());
  EXPECT_EQ(status.code(), Code::DeadlineExceeded);
  EXPECT_EQ(status.message(), "rank 0: instruction 8 (label): all_reduce #3 of group tp: waited 0.05 s for its peers");
  EXPECT_TRUE(fakeDevice.isAborted);
  EXPECT_EQ(reduce(10).message(), status.message());
}

INSTANTIATE_TEST_SUITE_P(Both, CudaNccl, ::testing::Values(Wait::AtTheEnd, Wait::InTheMiddle));

// Its receiver may come to it after something that this rank has yet to do.
TEST_F(CudaNccl, WhatIsSentHoldsUpTheEndAlone) {
  connect(.05);
  fakeDevice.peersCome = false;
  ASSERT_TRUE(send(7).ok());
  EXPECT_TRUE(rank->wait(stream).ok());
  EXPECT_THAT(rank->settle(stream).message(),
              AllOf(HasSubstr("instruction 7 (label): send"), EndsWith("waited 0.05 s for its peers")));
}

// Who asked for the wait knows whose it is, and asks the device next.
TEST_F(CudaNccl, AFaultInTheMiddleIsNotOfTheCommunication) {
  connect(60);
  ASSERT_TRUE(reduce(7).ok());
  fakeDevice.fault = cudaErrorIllegalAddress;
  EXPECT_TRUE(rank->wait(stream).ok());
  EXPECT_TRUE(world->failure().ok());
  EXPECT_THAT(rank->settle(stream).message(), HasSubstr("all_reduce #3 of group tp: cannot run the step"));
}

} // namespace
} // namespace distc::test
