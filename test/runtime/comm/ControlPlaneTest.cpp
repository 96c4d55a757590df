#include "Processes.h"

#include "runtime/comm/Bytes.h"

#include <gmock/gmock.h>

#include <sys/socket.h>

namespace distc::test {
namespace {

using ::testing::AllOf;
using ::testing::AnyOf;
using ::testing::HasSubstr;
using Bytes = ControlPlane::Bytes;

Bytes text(const std::string &words) { return ByteWriter().put(words).take(); }
std::string words(const Bytes &bytes) {
  std::string result;
  EXPECT_TRUE(ByteReader(bytes).get(result).atEnd());
  return result;
}

void expectAllOk(const std::vector<Status> &statuses) {
  for (const Status &status : statuses)
    EXPECT_TRUE(status.ok()) << status.message();
}

double seconds(const std::function<void()> &work) {
  const auto begin = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

TEST(ByteMessages, AreReadAsTheyWereWrittenAndNoFurther) {
  const std::vector<int32_t> numbers{1, -2, 3};
  const Bytes bytes = ByteWriter().put(7u).put(numbers).put(std::string("text")).put(std::vector<float>()).take();
  uint32_t seven = 0;
  std::vector<int32_t> read;
  std::string told;
  std::vector<float> none;
  EXPECT_TRUE(ByteReader(bytes).get(seven).get(read).get(told).get(none).atEnd());
  EXPECT_EQ(seven, 7u);
  EXPECT_EQ(read, numbers);
  EXPECT_EQ(told, "text");
  EXPECT_FALSE(ByteReader(bytes).get(seven).get(read).atEnd());
  for (size_t size = 0; size < bytes.size(); ++size)
    EXPECT_FALSE(ByteReader(std::span(bytes).first(size)).get(seven).get(read).get(told).get(none).ok()) << size;
}

TEST(Control, MessagesGoFromRankZeroToAllAndBack) {
  const Joined joined = join(5);
  expectAllOk(joined.statuses);
  const std::string large(3 << 20, 'x'); // more than a socket takes at once
  expectAllOk(onEach(joined, [&](uint32_t rank, ControlPlane &control) -> Status {
    for (const std::string &said : {std::string("first"), std::string(), large}) {
      Bytes message = rank == 0 ? text(said) : Bytes();
      DISTC_ASSIGN(const bool more, control.broadcast(message));
      EXPECT_TRUE(more);
      EXPECT_EQ(words(message), said);
      DISTC_ASSIGN(const auto all, control.gather(text(std::to_string(rank) + said)));
      EXPECT_EQ(all.size(), rank == 0 ? 5u : 0u);
      for (uint32_t r = 0; r < all.size(); ++r)
        EXPECT_EQ(words(all[r]), std::to_string(r) + said);
      DISTC_ASSIGN(const auto everyones, control.exchange(text("of " + std::to_string(rank))));
      EXPECT_EQ(everyones.size(), 5u);
      for (uint32_t r = 0; r < everyones.size(); ++r)
        EXPECT_EQ(words(everyones[r]), "of " + std::to_string(r));
    }
    // The clean end: nobody reports anything, and who waits is told that there is no more.
    if (rank == 0) {
      EXPECT_FALSE(control.finish({}));
      return {};
    }
    Bytes message;
    DISTC_ASSIGN(const bool more, control.broadcast(message));
    EXPECT_FALSE(more);
    EXPECT_FALSE(control.finish({}));
    return {};
  }));
}

TEST(Control, AFailureReachesAllAndRankZeroReportsIt) {
  for (uint32_t failing : {0u, 2u}) {
    Joined joined = join(4);
    std::vector<int> reports(4);
    onEach(joined, [&](uint32_t rank, ControlPlane &control) -> Status {
      Status status = dataLoss("rank " + std::to_string(failing) + ": the reason");
      if (rank == failing) {
        std::this_thread::sleep_for(std::chrono::milliseconds(30));
      } else if (rank == 0) {
        status = control.gather({}).status();
      } else {
        Bytes message;
        status = control.broadcast(message).status();
      }
      EXPECT_EQ(status.code(), Code::DataLoss);
      EXPECT_EQ(status.message(), "rank " + std::to_string(failing) + ": the reason");
      reports[rank] = control.finish(status);
      joined.controls[rank].reset(); // as the end of its process
      return status;
    });
    EXPECT_THAT(reports, ::testing::ElementsAre(1, 0, 0, 0));
  }
}

TEST(Control, ARankThatIsGoneIsNamedSoon) {
  for (uint32_t gone : {0u, 1u}) {
    Joined joined = join(3);
    EXPECT_LT(seconds([&] {
                onEach(joined, [&](uint32_t rank, ControlPlane &control) -> Status {
                  if (rank == gone) {
                    joined.controls[rank].reset(); // without a word, as when its process is killed
                    return {};
                  }
                  Status status;
                  Bytes message;
                  status = rank == 0 ? control.gather({}).status() : control.broadcast(message).status();
                  EXPECT_THAT(status.message(), HasSubstr("rank " + std::to_string(gone) + " is lost"));
                  EXPECT_EQ(control.finish(status), rank == 0 || gone == 0) << "who is left reports it";
                  joined.controls[rank].reset();
                  return status;
                });
              }),
              4);
  }
}

TEST(Control, AnInterruptEndsAWait) {
  std::atomic<bool> interrupted{false};
  const Joined joined =
      join(2, 20, [&](uint32_t rank, ControlOptions &o) { o.interrupted = rank == 1 ? &interrupted : nullptr; });
  const auto statuses = onEach(joined, [&](uint32_t rank, ControlPlane &control) -> Status {
    interrupted = true;
    Bytes message;
    return rank == 0 ? control.gather({}).status() : control.broadcast(message).status();
  });
  for (const Status &status : statuses)
    EXPECT_EQ(status.code(), Code::Cancelled) << status.message();
}

TEST(Control, MissingWrongAndDoubleRanksAreNamed) {
  const auto missing = join(2, .1, [](uint32_t rank, ControlOptions &o) { o.world = rank == 0 ? 4 : 4; });
  EXPECT_EQ(missing.statuses[0].code(), Code::DeadlineExceeded);
  EXPECT_THAT(missing.statuses[0].message(), HasSubstr("rank 0: waited 0.1 s for rank 2, rank 3 to connect"));

  const auto sizes = join(2, 20, [](uint32_t rank, ControlOptions &o) { o.world = rank == 0 ? 2 : 3; });
  EXPECT_THAT(sizes.statuses[0].message(),
              HasSubstr("rank 1 was started as one of 3 processes, rank 0 as one of 2; start all with one size"));
  // Who was refused learns why, and leaves the report to rank 0.
  Bytes message;
  const Status refused = sizes.controls[1]->broadcast(message).status();
  EXPECT_EQ(refused.message(), sizes.statuses[0].message());
  EXPECT_FALSE(sizes.controls[1]->finish(refused));

  const auto twice = join(3, 20, [](uint32_t rank, ControlOptions &o) { o.rank = std::min(rank, 1u); });
  EXPECT_THAT(twice.statuses[0].message(), HasSubstr("two processes were started as rank 1"));

  const auto nobody = ControlPlane::join({"127.0.0.1"}, 1, {1, 2, .1, nullptr});
  EXPECT_THAT(nobody.status().message(), HasSubstr("rank 1: waited 0.1 s for rank 0 at 127.0.0.1:1: "));
}

// Whatever else connects, and says something else or nothing, is turned away, and the ranks still meet.
TEST(Control, StrangersAreTurnedAway) {
  Socket listener = listenOn(0).take();
  const uint16_t port = portOf(listener);
  const Patience patience(10, nullptr);
  Socket silent = connectTo({"127.0.0.1"}, port, patience).take(),
         loud = connectTo({"127.0.0.1"}, port, patience).take();
  const std::string request = "GET / HTTP/1.1\r\nHost: distc\r\n\r\n";
  ASSERT_TRUE(writeAll(loud, std::as_bytes(std::span(request)), patience).ok());
  std::thread other([&] {
    auto control = ControlPlane::join({"127.0.0.1"}, port, {1, 2, 20, nullptr});
    ASSERT_TRUE(control.ok()) << control.status().message();
    Bytes message;
    EXPECT_TRUE((*control)->broadcast(message).ok());
  });
  auto control = ControlPlane::host(listener, {0, 2, 20, nullptr});
  ASSERT_TRUE(control.ok()) << control.status().message();
  Bytes message = text("x");
  EXPECT_TRUE((*control)->broadcast(message).ok());
  other.join();
}

// What processes without shared memory can and cannot do as a communicator, beside CollectivesTest.
TEST(TcpCommunicator, MismatchesTimeLimitsAndLostRanksAreErrorsOfAll) {
  auto reduce = [](Communicator &comm, uint32_t sequence) {
    float value = 1;
    return comm.allReduce({0, 0, sequence, 8, "a"}, &value, &value, 1, plan::DType::F32, plan::ReduceOp::Sum);
  };
  {
    const Joined joined = join(3);
    auto communicators = connectOverTcp(oneGroup(3), joined, true);
    const auto statuses =
        runRanks(communicators, [&](uint32_t r, Communicator &comm) { return reduce(comm, r == 1 ? 6 : 5); });
    for (const Status &status : statuses)
      EXPECT_THAT(status.message(), AllOf(HasSubstr("all_reduce #5"), HasSubstr("all_reduce #6"), HasSubstr("meets")));
  }
  {
    const Joined joined = join(3, .2);
    auto communicators = connectOverTcp(oneGroup(3), joined, false);
    const auto statuses = runRanks(communicators, [&](uint32_t r, Communicator &comm) -> Status {
      if (r == 2) // comes only after the others have given up
        std::this_thread::sleep_for(std::chrono::milliseconds(600));
      return reduce(comm, 0);
    });
    for (const Status &status : statuses)
      EXPECT_THAT(status.message(),
                  HasSubstr(": instruction 8 (a): all_reduce #0 of group all: waited 0.2 s for rank 2"));
  }
  Joined joined = join(3);
  auto communicators = connectOverTcp(oneGroup(3), joined, false);
  const auto statuses = runRanks(communicators, [&](uint32_t r, Communicator &comm) -> Status {
    if (r != 1)
      return reduce(comm, 0);
    joined.controls[1].reset();
    communicators[1].reset(); // closes its connections
    return {};
  });
  for (uint32_t r : {0u, 2u})
    EXPECT_THAT(statuses[r].message(), HasSubstr("rank 1 is lost"));
}

} // namespace
} // namespace distc::test
