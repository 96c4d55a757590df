// Weights in device memory are those that the loader for host memory makes, bit for bit.
#include "runtime/backends/cuda/Load.h"
#include "DeviceTest.h"
#include "PlanBuilder.h"
#include "runtime/backends/cuda/Device.h"

#include <gmock/gmock.h>

namespace distc::test {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

class CudaLoad : public DeviceTest {
protected:
  PlanBuilder builder() { return PlanBuilder(checkpoint, folder / "weights", 1, 1, 0); }

  const plan::Plan &pack(const plan::PlanT &plan) {
    payload = packPayload(plan);
    return *flatbuffers::GetRoot<plan::Plan>(payload.data());
  }

  void open(const plan::Plan &plan) {
    checkpoint.write(folder / "weights");
    auto opened = SourceFileCache(folder.path(), "").open(plan);
    ASSERT_TRUE(opened.ok()) << opened.status().message();
    files = opened.take();
  }

  // The device's memory is poisoned before and compared whole, but for the gaps between weights.
  void compare(const plan::Plan &plan, const LoadOptions &options) {
    const size_t bytes = plan.ledger()->weights_loaded();
    auto memory = cuda::Memory::allocate(cuda::Memory::Kind::Device, bytes, "test");
    ASSERT_TRUE(memory.ok());
    ASSERT_EQ(cudaMemset(memory->data(), 0xA5, bytes), cudaSuccess);
    std::atomic<uint64_t> loaded{0};
    LoadOptions counted = options;
    counted.loadedBytes = &loaded;
    const Status status = cuda::loadWeights(plan, files, counted, pool, memory->data());
    ASSERT_TRUE(status.ok()) << status.message();
    const auto expected = RankWeights::load(plan, files, options, pool);
    ASSERT_TRUE(expected.ok()) << expected.status().message();
    std::vector<unsigned char> actual(bytes);
    ASSERT_EQ(cudaMemcpy(actual.data(), memory->data(), bytes, cudaMemcpyDeviceToHost), cudaSuccess);
    uint64_t total = 0;
    std::vector<bool> written(bytes);
    for (uint32_t w = 0; w < plan.weights()->size(); ++w) {
      const plan::Weight &weight = *plan.weights()->Get(w);
      EXPECT_EQ(std::memcmp(actual.data() + weight.offset(), (*expected)[w].data, weight.bytes()), 0)
          << "weight " << w << ", " << weight.name()->str() << " as " << EnumNameDType(weight.dtype());
      std::fill_n(written.begin() + static_cast<ptrdiff_t>(weight.offset()), weight.bytes(), true);
      total += weight.bytes();
    }
    EXPECT_EQ(loaded, total);
    for (size_t i = 0; i < bytes; ++i)
      if (!written[i]) {
        ASSERT_EQ(actual[i], 0xA5) << "written outside of the weights, at " << i;
      }
  }

  TemporaryFolder folder;
  Checkpoint checkpoint{freshSeed()};
  ThreadPool pool{{.threads = 3, .spin = false, .cores = {}}};
  std::vector<uint8_t> payload;
  SourceFiles files;
};

constexpr plan::DType kSources[] = {plan::DType::F32,  plan::DType::F16,  plan::DType::BF16, plan::DType::Q8_0,
                                    plan::DType::Q4_0, plan::DType::Q4_1, plan::DType::Q5_0, plan::DType::Q5_1,
                                    plan::DType::Q2_K, plan::DType::Q3_K, plan::DType::Q4_K, plan::DType::Q5_K,
                                    plan::DType::Q6_K};
constexpr plan::DType kTargets[] = {plan::DType::F32, plan::DType::F16, plan::DType::BF16};

// Slices that start and end inside quantized blocks, and those that do not; padding of rows and columns.
TEST_F(CudaLoad, EveryTypeToEveryType) {
  for (plan::DType from : kSources)
    checkpoint.add(EnumNameDType(from), from, {12, dtypeBlock(from) > 32 ? 512u : 96u});
  PlanBuilder builder = this->builder();
  for (uint32_t t = 0; t < std::size(kSources); ++t)
    for (plan::DType to : kTargets) {
      builder.weight(t, to);
      if (dtypeBlock(kSources[t]) > 32)
        builder.weight(t, to, {{{7, 5}, {kZeroFill, 2}}, {{256, 256}, {kZeroFill, 256}}});
      builder.weight(t, to, {{{7, 5}, {kZeroFill, 2}, {0, 3}}, {{17, 70}, {kZeroFill, 3}, {2, 1}, {95, 1}}});
      builder.weight(t, to, {{{7, 5}, {kZeroFill, 2}}, {{32, 64}, {kZeroFill, 32}}});
      builder.weight(t, to, {{{0, 12}}, {{64, 32}}});
    }
  const plan::Plan &plan = pack(builder.finish());
  open(plan);
  compare(plan, {});
}

// Weights of many buffers, each, and more than there are threads; two tensors in one.
TEST_F(CudaLoad, MoreThanABuffer) {
  const uint32_t a = checkpoint.add("a", plan::DType::BF16, {2100, 3001}),
                 b = checkpoint.add("b", plan::DType::F32, {1700, 1024}),
                 c = checkpoint.add("c", plan::DType::Q8_0, {1000, 2080});
  PlanBuilder builder = this->builder();
  builder.weight(a, plan::DType::BF16);
  builder.weight(a, plan::DType::BF16, {{{0, 2100}}, {{1000, 1001}}}); // columns
  builder.weight(b, plan::DType::BF16);
  builder.weight(c, plan::DType::BF16);
  builder.weight(c, plan::DType::F16, {{{0, 1000}}, {{1024, 1056}}});
  const uint32_t two = builder.weight(a, plan::DType::F16, {{{1000, 700}}, {{0, 1024}}});
  plan::WeightT &weight = *builder.plan.weights[two];
  PlanBuilder::addSource(weight, b, {{{0, 1700}}, {{0, 1024}}}, {1700, 1024});
  weight.shape = {2400, 1024};
  weight.bytes = 2400 * 1024 * 2;
  builder.plan.ledger->weights_loaded = weight.offset + weight.bytes;
  const plan::Plan &plan = pack(builder.finish());
  open(plan);
  compare(plan, {});
}

// Matrices that the file holds as [in, out]: of every type, and of more than a buffer.
TEST_F(CudaLoad, Transposed) {
  for (plan::DType from : kSources)
    checkpoint.add(EnumNameDType(from), from, {64, 96});
  const uint32_t large = checkpoint.add("large", plan::DType::BF16, {1100, 1500});
  PlanBuilder builder = this->builder();
  for (uint32_t t = 0; t < std::size(kSources); ++t)
    for (plan::DType to : kTargets)
      builder.weight(t, to, {{{20, 37}, {kZeroFill, 2}}, {{3, 40}}}, plan::Placement::Load, {96, 64});
  builder.weight(large, plan::DType::BF16, {{{0, 1500}}, {{0, 1100}}}, plan::Placement::Load, {1500, 1100});
  for (auto &weight : builder.plan.weights)
    weight->sources[0]->transposed = 1;
  const plan::Plan &plan = pack(builder.finish());
  open(plan);
  compare(plan, {});
  LoadOptions random;
  random.randomSeed = freshSeed();
  compare(plan, random);
}

TEST_F(CudaLoad, RandomWeights) {
  const uint32_t t = checkpoint.add("t", plan::DType::F32, {40, 96}), u = checkpoint.add("u", plan::DType::F32, {333});
  PlanBuilder builder = this->builder();
  for (plan::DType to : kTargets) {
    builder.weight(t, to);
    builder.weight(u, to);
    builder.weight(t, to, {{{0, 40}}, {{24, 48}}}); // columns, of whole vectors and not
    builder.weight(t, to, {{{0, 40}}, {{25, 33}}});
    builder.weight(t, to, {{{30, 10}, {kZeroFill, 3}, {0, 3}}, {{17, 70}, {kZeroFill, 3}, {2, 1}}});
    builder.plan.weights[builder.weight(t, to)]->init = plan::Init::Ones;
    builder.plan.weights[builder.weight(u, to)]->init = plan::Init::Zeros;
  }
  for (auto &weight : builder.plan.weights)
    weight->init_scale = 0.0371f;
  const plan::Plan &plan = pack(builder.finish());
  LoadOptions options;
  options.randomSeed = freshSeed();
  compare(plan, options);
}

TEST_F(CudaLoad, ErrorsNameRankWeightAndFile) {
  const uint32_t t = checkpoint.add("t", plan::DType::F32, {64, 64});
  PlanBuilder builder = this->builder();
  builder.weight(t, plan::DType::BF16);
  const plan::Plan &plan = pack(builder.finish());
  open(plan);
  std::filesystem::resize_file(folder / "weights", 1000);
  auto memory = cuda::Memory::allocate(cuda::Memory::Kind::Device, plan.ledger()->weights_loaded(), "test");
  ASSERT_TRUE(memory.ok());
  Status status = cuda::loadWeights(plan, files, {}, pool, memory->data());
  EXPECT_EQ(status.code(), Code::DataLoss);
  EXPECT_THAT(status.message(), AllOf(HasSubstr("rank 0: weight t: "), HasSubstr("/weights: ends after 1000 of")));

  const std::atomic<bool> interrupted{true};
  LoadOptions options;
  options.interrupted = &interrupted;
  EXPECT_EQ(cuda::loadWeights(plan, files, options, pool, memory->data()).code(), Code::Cancelled);
  options.randomSeed = 1;
  EXPECT_EQ(cuda::loadWeights(plan, files, options, pool, memory->data()).code(), Code::Cancelled);

  builder.plan.weights[0]->offset = 256;
  EXPECT_THAT(cuda::loadWeights(pack(builder.plan), files, {}, pool, memory->data()).message(),
              HasSubstr("rank 0: weight t: 8192 bytes at 256 are not a place"));
}

TEST_F(CudaLoad, WhatDoesNotFitIsNamed) {
  const auto memory = cuda::Memory::allocate(cuda::Memory::Kind::Device, size_t(1) << 50, "rank 3: KV cache");
  EXPECT_EQ(memory.status().code(), Code::ResourceExhausted);
  EXPECT_THAT(memory.status().message(), AllOf(HasSubstr("rank 3: KV cache: cannot allocate 1.00 PiB of device memory"),
                                               HasSubstr("are free"), HasSubstr("compile for a smaller batch")));
  EXPECT_EQ(cudaGetLastError(), cudaSuccess) << "what follows may succeed";
}

} // namespace
} // namespace distc::test
