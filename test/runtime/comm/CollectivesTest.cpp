#include "Processes.h"

#include <gmock/gmock.h>

#include <cmath>
#include <random>

namespace distc::test {
namespace {

using Floats = std::vector<float>;

uint32_t freshSeed() {
  uint32_t seed = std::random_device{}();
  ::testing::Test::RecordProperty("seed", std::to_string(seed));
  std::printf("seed %u\n", seed);
  return seed;
}

std::vector<Floats> randomInputs(uint32_t ranks, size_t count, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<Floats> inputs(ranks, Floats(count));
  for (Floats &input : inputs)
    for (float &value : input)
      value = normal(random);
  return inputs;
}

CommCall call(uint32_t sequence, uint64_t step = 0) { return {0, step, sequence, 100 + sequence, "test"}; }

void expectOk(const std::vector<Status> &statuses) {
  for (const Status &status : statuses)
    EXPECT_TRUE(status.ok()) << status.message();
}

// ‖out - reference‖ over the norm of the sums of magnitudes (a sum itself may cancel); the reference adds in double.
double sumError(const Floats &out, const std::vector<Floats> &inputs, size_t first = 0) {
  double error = 0, norm = 1e-30;
  for (size_t i = 0; i < out.size(); ++i) {
    double sum = 0, magnitude = 0;
    for (const Floats &input : inputs) {
      const double value = first + i < input.size() ? input[first + i] : 0;
      sum += value;
      magnitude += std::abs(value);
    }
    error += (out[i] - sum) * (out[i] - sum);
    norm += magnitude * magnitude;
  }
  return std::sqrt(error / norm);
}

enum class How { Blocking, Spinning, Tcp };

class Collectives : public ::testing::TestWithParam<std::tuple<uint32_t, How>> {
protected:
  const uint32_t ranks = std::get<0>(GetParam());
  const How how = std::get<1>(GetParam());
  const Joined joined = how == How::Tcp ? join(ranks) : Joined{};
  std::vector<std::unique_ptr<Communicator>> communicators =
      how == How::Tcp ? connectOverTcp(oneGroup(ranks), joined, false)
                      : connectInProcess(oneGroup(ranks), {.timeoutSeconds = 60, .spin = how == How::Spinning});
};

TEST_P(Collectives, MatchAReference) {
  const uint32_t seed = freshSeed();
  uint32_t sequence = 0;
  for (size_t count : {0, 1, 5, 16, 17, 1000, 4096, 10007, 40001}) {
    const std::vector<Floats> inputs = randomInputs(ranks, count, seed + sequence);
    const size_t part = (count + ranks - 1) / ranks;
    std::vector<Floats> sum(ranks, Floats(count, NAN)), inPlace = inputs, max = sum, gathered(ranks),
                                                        scattered(ranks, Floats(part, NAN)), cut(ranks);
    expectOk(runRanks(communicators, [&](uint32_t r, Communicator &comm) -> Status {
      const float *in = inputs[r].data();
      auto f32 = plan::DType::F32;
      DISTC_TRY(comm.allReduce(call(sequence), in, sum[r].data(), count, f32, plan::ReduceOp::Sum));
      DISTC_TRY(
          comm.allReduce(call(sequence + 1), inPlace[r].data(), inPlace[r].data(), count, f32, plan::ReduceOp::Sum));
      DISTC_TRY(comm.allReduce(call(sequence + 2), in, max[r].data(), count, f32, plan::ReduceOp::Max));
      DISTC_TRY(comm.reduceScatter(call(sequence + 3), in, count, scattered[r].data(), part, f32, plan::ReduceOp::Sum));
      gathered[r].assign(count * ranks, NAN);
      DISTC_TRY(comm.allGather(call(sequence + 4), in, count, gathered[r].data(), count * ranks, f32));
      cut[r].assign(count, NAN);
      return comm.allGather(call(sequence + 5), scattered[r].data(), part, cut[r].data(), count, f32);
    }));
    sequence += 6;
    for (uint32_t r = 0; r < ranks; ++r) {
      EXPECT_LT(sumError(sum[r], inputs), 1e-6) << "count " << count;
      EXPECT_EQ(sum[r], inPlace[r]);
      EXPECT_EQ(sum[r], sum[0]);
      EXPECT_LT(sumError(scattered[r], inputs, r * part), 1e-6);
      EXPECT_EQ(cut[r], sum[0]) << "a reduce-scatter, gathered again, is the all-reduce, to the bit";
      for (size_t i = 0; i < count; ++i) {
        float largest = inputs[0][i];
        for (const Floats &input : inputs)
          largest = std::max(largest, input[i]);
        ASSERT_EQ(max[r][i], largest);
      }
      for (uint32_t m = 0; m < ranks; ++m)
        for (size_t i = 0; i < count; ++i)
          ASSERT_EQ(gathered[r][m * count + i], inputs[m][i]);
    }
  }
}

TEST_P(Collectives, AddInMemberOrderWhateverTheArrivalAndTheLength) {
  const std::vector<Floats> inputs = randomInputs(ranks, 3000, freshSeed());
  Floats expected = inputs[0];
  for (uint32_t m = 1; m < ranks; ++m)
    for (size_t i = 0; i < expected.size(); ++i)
      expected[i] += inputs[m][i];
  for (uint32_t run = 0; run < 20; ++run) {
    const size_t count = run % 2 ? 3000 : 100 + run * 7;
    std::vector<Floats> out(ranks, Floats(count, NAN));
    expectOk(runRanks(communicators, [&](uint32_t r, Communicator &comm) -> Status {
      if ((r + run) % 3 == 0)
        std::this_thread::sleep_for(std::chrono::microseconds(200 * ((r * 7 + run) % 5)));
      return comm.allReduce(call(run), inputs[r].data(), out[r].data(), count, plan::DType::F32, plan::ReduceOp::Sum);
    }));
    for (const Floats &o : out)
      ASSERT_TRUE(std::equal(o.begin(), o.end(), expected.begin()));
  }
}

TEST_P(Collectives, Integers) {
  std::vector<std::vector<int32_t>> out(ranks);
  expectOk(runRanks(communicators, [&](uint32_t r, Communicator &comm) -> Status {
    out[r] = {static_cast<int32_t>(r), 1 << 30, -static_cast<int32_t>(r)};
    DISTC_TRY(comm.allReduce(call(0), out[r].data(), out[r].data(), 1, plan::DType::I32, plan::ReduceOp::Sum));
    return comm.allReduce(call(1), out[r].data() + 1, out[r].data() + 1, 2, plan::DType::I32, plan::ReduceOp::Max);
  }));
  for (const auto &o : out)
    EXPECT_THAT(o, ::testing::ElementsAre(ranks * (ranks - 1) / 2, 1 << 30, 0));
}

// A ring: everyone sends several messages while the neighbour takes them.
TEST_P(Collectives, SendAndReceiveInOrder) {
  constexpr uint32_t kMessages = 50;
  expectOk(runRanks(communicators, [&](uint32_t r, Communicator &comm) -> Status {
    if (ranks == 1)
      return {};
    for (uint32_t i = 0; i < kMessages; ++i) {
      const std::vector<int32_t> out(i * 3, static_cast<int32_t>(r * 1000 + i));
      const uint32_t from = (r + ranks - 1) % ranks;
      std::vector<int32_t> in(i * 3);
      DISTC_TRY(comm.send(call(i), (r + 1) % ranks, out.data(), out.size(), plan::DType::I32));
      DISTC_TRY(comm.recv(call(i), from, in.data(), in.size(), plan::DType::I32));
      EXPECT_EQ(in, std::vector<int32_t>(i * 3, static_cast<int32_t>(from * 1000 + i)));
    }
    return comm.settle(nullptr);
  }));
}

// Both send everything before they receive anything: were there a limit to the messages under way, neither would get
// on.
class Sends : public ::testing::TestWithParam<How> {};

TEST_P(Sends, NeverWait) {
  constexpr uint32_t kMessages = 1000;
  const bool tcp = GetParam() == How::Tcp;
  const Joined joined = tcp ? join(2) : Joined{};
  auto communicators =
      tcp ? connectOverTcp(oneGroup(2), joined, false) : connectInProcess(oneGroup(2), {.timeoutSeconds = 5});
  // Together more than the buffers of a connection hold.
  auto size = [&](uint32_t i) { return (tcp ? 10000 : 1) + i % 7; };
  expectOk(runRanks(communicators, [&](uint32_t r, Communicator &comm) -> Status {
    for (uint32_t i = 0; i < kMessages; ++i) {
      const std::vector<uint32_t> out(size(i), r * kMessages + i);
      DISTC_TRY(comm.send(call(i), 1 - r, out.data(), out.size(), plan::DType::I32));
    }
    for (uint32_t i = 0; i < kMessages; ++i) {
      std::vector<uint32_t> in(size(i));
      DISTC_TRY(comm.recv(call(i), 1 - r, in.data(), in.size(), plan::DType::I32));
      EXPECT_EQ(in, std::vector<uint32_t>(size(i), (1 - r) * kMessages + i));
    }
    return comm.settle(nullptr);
  }));
}

std::string nameOf(How how) { return how == How::Blocking ? "Blocking" : how == How::Spinning ? "Spinning" : "Tcp"; }

INSTANTIATE_TEST_SUITE_P(Kinds, Sends, ::testing::Values(How::Blocking, How::Tcp),
                         [](const auto &info) { return nameOf(info.param); });
INSTANTIATE_TEST_SUITE_P(Ranks, Collectives,
                         ::testing::Combine(::testing::Range(1u, 9u),
                                            ::testing::Values(How::Blocking, How::Spinning, How::Tcp)),
                         [](const auto &info) {
                           return std::to_string(std::get<0>(info.param)) + nameOf(std::get<1>(info.param));
                         });

} // namespace
} // namespace distc::test
