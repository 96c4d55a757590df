#include "Ranks.h"
#include "runtime/comm/World.h"

#include <gmock/gmock.h>

#include <chrono>

namespace distc::test {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

Status reduceOne(Communicator &comm, const CommCall &call, size_t count = 4, plan::DType dtype = plan::DType::F32) {
  std::vector<float> values(count, 1);
  return comm.allReduce(call, values.data(), values.data(), count, dtype, plan::ReduceOp::Sum);
}

void expectAll(const std::vector<Status> &statuses, Code code, const ::testing::Matcher<const std::string &> &message) {
  for (const Status &status : statuses) {
    EXPECT_EQ(status.code(), code);
    EXPECT_THAT(status.message(), message);
    EXPECT_EQ(status.message(), statuses[0].message()) << "everyone returns the first failure";
  }
}

TEST(CommFailure, ARankThatNeverComesIsNamed) {
  for (bool spin : {false, true}) {
    auto communicators = connectInProcess(oneGroup(3), {.timeoutSeconds = 0.1, .spin = spin});
    auto statuses = runRanks(communicators, [&](uint32_t r, Communicator &comm) -> Status {
      if (r == 1) { // comes only after the others have given up
        std::this_thread::sleep_for(std::chrono::milliseconds(400));
        return reduceOne(comm, {0, 0, 7, 17, "layers.3.attention.o"});
      }
      return reduceOne(comm, {0, 0, 7, 17, "layers.3.attention.o"});
    });
    expectAll(statuses, Code::DeadlineExceeded,
              AllOf(HasSubstr("instruction 17 (layers.3.attention.o): all_reduce #7 of group all"),
                    HasSubstr("waited 0.1 s for rank 1"), ::testing::StartsWith("rank ")));
  }
}

TEST(CommFailure, WhoAskedIsToldOfTheFirstFailure) {
  World world({});
  int early = 0, late = 0, forgotten = 0;
  world.whenFailed(&early, [&] { early += world.failed(); });
  world.whenFailed(&forgotten, [&] { ++forgotten; });
  world.forget(&forgotten);
  world.record(internal("the first"));
  world.record(internal("a later one"));
  world.whenFailed(&late, [&] { ++late; });
  EXPECT_EQ(early, 1);
  EXPECT_EQ(late, 1);
  EXPECT_EQ(forgotten, 0);
  EXPECT_EQ(world.failure().message(), "the first");
}

TEST(CommFailure, AReceiverNamesTheSenderThatNeverComes) {
  auto communicators = connectInProcess(oneGroup(2), {.timeoutSeconds = 0.05});
  float value = 0;
  Status status = communicators[1]->recv({0, 0, 3, 21, "boundary"}, 0, &value, 1, plan::DType::F32);
  EXPECT_EQ(status.code(), Code::DeadlineExceeded);
  EXPECT_THAT(status.message(), HasSubstr("rank 1: instruction 21 (boundary): recv #3 of group all: waited 0.05 s for "
                                          "rank 0 to send"));
  EXPECT_EQ(communicators[0]->failure().message(), status.message());
}

TEST(CommFailure, AbortFromAnotherThreadEndsEveryWait) {
  auto communicators = connectInProcess(oneGroup(4), {.timeoutSeconds = 60});
  auto start = std::chrono::steady_clock::now();
  std::thread killer([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    communicators[3]->abort(dataLoss("rank 3: the reason"));
    communicators[3]->abort(internal("a later one"));
  });
  auto statuses = runRanks(communicators, [&](uint32_t r, Communicator &comm) -> Status {
    float value = 0;
    if (r == 2)
      return comm.recv({0, 0, 0, 1, ""}, 0, &value, 1, plan::DType::F32);
    return r == 3 ? comm.recv({0, 0, 0, 1, ""}, 2, &value, 1, plan::DType::F32) : reduceOne(comm, {0, 0, 0, 1, ""});
  });
  killer.join();
  expectAll(statuses, Code::DataLoss, ::testing::Eq("rank 3: the reason"));
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(20));
}

TEST(CommFailure, AnInterruptEndsEveryWait) {
  std::atomic<bool> interrupted{false};
  auto communicators = connectInProcess(oneGroup(3), {.timeoutSeconds = 60, .interrupted = &interrupted});
  auto statuses = runRanks(communicators, [&](uint32_t r, Communicator &comm) -> Status {
    if (r != 0)
      return reduceOne(comm, {0, 0, 0, 1, ""});
    std::this_thread::sleep_for(std::chrono::milliseconds(30));
    interrupted = true;
    float value = 0;
    return comm.recv({0, 0, 0, 1, ""}, 1, &value, 1, plan::DType::F32);
  });
  expectAll(statuses, Code::Cancelled, HasSubstr("interrupted"));
}

struct Mismatch {
  const char *what;
  CommCall call;
  size_t count;
  plan::DType dtype;
};

TEST(CommFailure, CollectivesThatDoNotAgreeAreErrors) {
  for (const Mismatch &wrong : {Mismatch{"sequence", {0, 0, 6, 9, "b"}, 4, plan::DType::F32},
                                Mismatch{"step", {0, 1, 5, 9, "b"}, 4, plan::DType::F32},
                                Mismatch{"count", {0, 0, 5, 9, "b"}, 3, plan::DType::F32},
                                Mismatch{"dtype", {0, 0, 5, 9, "b"}, 4, plan::DType::I32}}) {
    SCOPED_TRACE(wrong.what);
    auto communicators = connectInProcess(oneGroup(2), {.timeoutSeconds = 60});
    auto statuses = runRanks(communicators, [&](uint32_t r, Communicator &comm) {
      return r == 0 ? reduceOne(comm, {0, 0, 5, 8, "a"}) : reduceOne(comm, wrong.call, wrong.count, wrong.dtype);
    });
    expectAll(
        statuses, Code::Internal,
        AllOf(HasSubstr("rank 1: instruction 9 (b): all_reduce #"), HasSubstr("meets rank 0: instruction 8 (a)")));
  }
}

TEST(CommFailure, DifferentCollectivesDoNotMeet) {
  auto communicators = connectInProcess(oneGroup(2), {.timeoutSeconds = 60});
  auto statuses = runRanks(communicators, [&](uint32_t r, Communicator &comm) {
    std::vector<float> in(4), out(8);
    return r == 0 ? reduceOne(comm, {0, 0, 0, 1, ""})
                  : comm.allGather({0, 0, 0, 1, ""}, in.data(), 4, out.data(), 8, plan::DType::F32);
  });
  expectAll(statuses, Code::Internal, AllOf(HasSubstr("all_gather"), HasSubstr("all_reduce")));
}

TEST(CommFailure, MessagesThatDoNotAgreeAreErrors) {
  for (const Mismatch &wrong : {Mismatch{"sequence", {0, 0, 6, 9, "b"}, 4, plan::DType::F32},
                                Mismatch{"step", {0, 1, 5, 9, "b"}, 4, plan::DType::F32},
                                Mismatch{"count", {0, 0, 5, 9, "b"}, 3, plan::DType::F32},
                                Mismatch{"dtype", {0, 0, 5, 9, "b"}, 4, plan::DType::I32}}) {
    SCOPED_TRACE(wrong.what);
    auto communicators = connectInProcess(oneGroup(2), {});
    std::vector<float> values(4);
    ASSERT_TRUE(communicators[0]->send({0, 0, 5, 8, "a"}, 1, values.data(), 4, plan::DType::F32).ok());
    Status status = communicators[1]->recv(wrong.call, 0, values.data(), wrong.count, wrong.dtype);
    EXPECT_EQ(status.code(), Code::Internal);
    EXPECT_THAT(status.message(), AllOf(HasSubstr("rank 1: instruction 9 (b): recv #"),
                                        HasSubstr("meets rank 0: instruction 8 (a): send #5")));
  }
}

TEST(CommFailure, WrongGroupsPeersTypesAndPartsAreErrors) {
  auto fresh = [] {
    return connectInProcess(std::vector<std::vector<CommGroup>>{{{"a", {0, 1}}}, {{"a", {0, 1}}}}, {});
  };
  float value[4] = {};
  EXPECT_EQ(reduceOne(*fresh()[0], {1, 0, 0, 1, ""}).code(), Code::Internal);
  EXPECT_EQ(fresh()[0]->send({0, 0, 0, 1, ""}, 0, value, 1, plan::DType::F32).code(), Code::Internal);
  EXPECT_EQ(fresh()[0]->recv({0, 0, 0, 1, ""}, 2, value, 1, plan::DType::F32).code(), Code::Internal);
  EXPECT_EQ(reduceOne(*fresh()[0], {0, 0, 0, 1, ""}, 1, plan::DType::BF16).code(), Code::Internal);
  EXPECT_EQ(fresh()[0]->allGather({0, 0, 0, 1, ""}, value, 1, value + 1, 3, plan::DType::F32).code(), Code::Internal);
  EXPECT_EQ(
      fresh()[0]->reduceScatter({0, 0, 0, 1, ""}, value, 3, value + 3, 1, plan::DType::F32, plan::ReduceOp::Sum).code(),
      Code::Internal);
}

// Groups of one process do not mix: two tensor-parallel groups side by side, and a pipeline across them.
TEST(CommFailure, GroupsAreApart) {
  std::vector<std::vector<CommGroup>> groups = {{{"tp", {0, 1}}, {"pp", {0, 2}}},
                                                {{"tp", {0, 1}}, {"pp", {1, 3}}},
                                                {{"tp", {2, 3}}, {"pp", {0, 2}}},
                                                {{"tp", {2, 3}}, {"pp", {1, 3}}}};
  auto communicators = connectInProcess(groups, {});
  std::vector<int32_t> tp(4), pp(4);
  auto statuses = runRanks(communicators, [&](uint32_t r, Communicator &comm) -> Status {
    tp[r] = pp[r] = 1 << r;
    DISTC_TRY(comm.allReduce({0, 0, 0, 1, ""}, &tp[r], &tp[r], 1, plan::DType::I32, plan::ReduceOp::Sum));
    return comm.allReduce({1, 0, 0, 2, ""}, &pp[r], &pp[r], 1, plan::DType::I32, plan::ReduceOp::Sum);
  });
  for (const Status &status : statuses)
    EXPECT_TRUE(status.ok()) << status.message();
  EXPECT_THAT(tp, ::testing::ElementsAre(3, 3, 12, 12));
  EXPECT_THAT(pp, ::testing::ElementsAre(5, 10, 5, 10));
}

} // namespace
} // namespace distc::test
