#include "PlanBuilder.h"
#include "runtime/plan/WeightLoader.h"

#include <cmath>
#include <gmock/gmock.h>

namespace distc::test {
namespace {

using ::testing::HasSubstr;

class Loader : public ::testing::Test {
protected:
  PlanBuilder builder() { return PlanBuilder(checkpoint, folder / "weights", 1, 1, 0); }

  Result<RankWeights> load(const plan::PlanT &plan, LoadOptions options = {}) {
    payload = packPayload(plan);
    const plan::Plan &packed = *flatbuffers::GetRoot<plan::Plan>(payload.data());
    SourceFiles files;
    if (!options.randomSeed) {
      checkpoint.write(folder / "weights");
      SourceFileCache cache(folder.path(), "");
      DISTC_ASSIGN(files, cache.open(packed));
    }
    return RankWeights::load(packed, files, options, pool);
  }

  // Element (row, column) of a weight of two dimensions, as f32.
  static float at(const LoadedWeight &weight, uint64_t row, uint64_t column) {
    const uint64_t i = row * weight.rowStride + column;
    if (weight.dtype == plan::DType::F32)
      return static_cast<const float *>(weight.data)[i];
    if (weight.dtype == plan::DType::F16)
      return static_cast<float>(static_cast<const _Float16 *>(weight.data)[i]);
    if (isQuantized(weight.dtype)) {
      float block[256];
      const uint64_t elements = dtypeBlock(weight.dtype);
      convert(weight.data, weight.dtype, i / elements * elements, elements, block, plan::DType::F32);
      return block[i % elements];
    }
    const uint32_t bits = uint32_t(static_cast<const uint16_t *>(weight.data)[i]) << 16;
    float value;
    std::memcpy(&value, &bits, 4);
    return value;
  }

  TemporaryFolder folder;
  Checkpoint checkpoint{freshSeed()};
  ThreadPool pool{{.threads = 3, .spin = false, .cores = {}}};
  std::vector<uint8_t> payload;
};

// Every type, as it is and to F32, with slices that start and end inside quantized blocks, and with padding.
TEST_F(Loader, EveryTypeBySegmentsWithPadding) {
  using plan::DType;
  const std::pair<DType, DType> conversions[] = {
      {DType::F32, DType::F32},  {DType::F16, DType::F16},  {DType::BF16, DType::BF16}, {DType::F16, DType::F32},
      {DType::BF16, DType::F32}, {DType::Q8_0, DType::F32}, {DType::Q4_1, DType::F32},  {DType::Q4_0, DType::F32},
      {DType::Q5_0, DType::F32}, {DType::Q5_1, DType::F32}};
  const Slices slices = {{{7, 5}, {kZeroFill, 2}, {0, 3}}, {{17, 70}, {kZeroFill, 3}, {2, 1}, {95, 1}}};
  for (auto [from, to] : conversions)
    checkpoint.add(std::string(EnumNameDType(from)), from, {12, 96});
  PlanBuilder plan = builder();
  for (uint32_t i = 0; i < std::size(conversions); ++i)
    plan.weight(i, conversions[i].second, slices);
  auto weights = load(plan.finish());
  ASSERT_TRUE(weights.ok()) << weights.status().message();

  for (uint32_t i = 0; i < std::size(conversions); ++i) {
    SCOPED_TRACE(checkpoint.tensors()[i].name);
    const LoadedWeight &weight = (*weights)[i];
    ASSERT_EQ(weight.elements, 10u * 75);
    EXPECT_EQ(weight.rowStride, 75u);
    uint64_t row = 0;
    for (const Slice &r : slices[0])
      for (uint64_t a = 0; a < r.count; ++a, ++row) {
        uint64_t column = 0;
        for (const Slice &c : slices[1])
          for (uint64_t b = 0; b < c.count; ++b, ++column) {
            const bool zero = r.begin == kZeroFill || c.begin == kZeroFill;
            ASSERT_EQ(at(weight, row, column), zero ? 0 : checkpoint.values(i)[(r.begin + a) * 96 + c.begin + b])
                << row << ", " << column;
          }
      }
  }
}

// Blocks stay as they are: loaded with padding of rows and columns, and mapped.
TEST_F(Loader, QuantizedStays) {
  for (plan::DType dtype :
       {plan::DType::Q8_0, plan::DType::Q4_0, plan::DType::Q4_1, plan::DType::Q5_0, plan::DType::Q5_1,
        plan::DType::Q2_K, plan::DType::Q3_K, plan::DType::Q4_K, plan::DType::Q5_K, plan::DType::Q6_K}) {
    SCOPED_TRACE(EnumNameDType(dtype));
    Checkpoint tensors(freshSeed());
    checkpoint = tensors;
    const uint64_t b = dtypeBlock(dtype);
    const uint32_t before = checkpoint.add("before", plan::DType::F16, {5}), // blocks are not aligned
        t = checkpoint.add("t", dtype, {6, 4 * b});
    ASSERT_EQ(before + 1, t);
    PlanBuilder plan = builder();
    const uint32_t loaded = plan.weight(t, dtype, {{{4, 2}, {kZeroFill, 3}, {0, 1}}, {{b, 2 * b}, {kZeroFill, b}}});
    const uint32_t rows = plan.weight(t, dtype, {{{2, 3}}, {{0, 4 * b}}}, plan::Placement::Map);
    const uint32_t columns = plan.weight(t, dtype, {{{0, 6}}, {{2 * b, b}}}, plan::Placement::Map);
    auto weights = load(plan.finish());
    ASSERT_TRUE(weights.ok()) << weights.status().message();
    const std::vector<float> &exact = checkpoint.values(t);
    for (uint64_t r = 0; r < 6; ++r)
      for (uint64_t c = 0; c < 3 * b; ++c) {
        const bool zero = (r >= 2 && r < 5) || c >= 2 * b;
        ASSERT_EQ(at((*weights)[loaded], r, c), zero ? 0 : exact[(r < 2 ? 4 + r : 0) * 4 * b + b + c])
            << r << ", " << c;
      }
    EXPECT_EQ((*weights)[columns].rowStride, 4 * b);
    for (uint64_t r = 0; r < 3; ++r)
      for (uint64_t c = 0; c < 4 * b; ++c)
        ASSERT_EQ(at((*weights)[rows], r, c), exact[(2 + r) * 4 * b + c]);
    for (uint64_t r = 0; r < 6; ++r)
      for (uint64_t c = 0; c < b; ++c)
        ASSERT_EQ(at((*weights)[columns], r, c), exact[r * 4 * b + 2 * b + c]);
  }
}

TEST_F(Loader, CutBlocksAreRefused) {
  const uint32_t t = checkpoint.add("t", plan::DType::Q4_0, {4, 64});
  PlanBuilder plan = builder();
  plan.weight(t, plan::DType::Q4_0, {{{0, 4}}, {{16, 32}}});
  auto weights = load(plan.finish());
  ASSERT_FALSE(weights.ok());
  EXPECT_THAT(weights.status().message(), HasSubstr("is cut inside a block"));
}

// Values of random blocks spread as those of other types do.
TEST(RandomBlocks, HaveTheScaleOfOtherTypes) {
  for (int d = 0; d <= int(plan::DType::MAX); ++d) {
    const auto dtype = static_cast<plan::DType>(d);
    if (!isQuantized(dtype))
      continue;
    const uint64_t n = 1 << 16, key = randomKey(freshSeed(), "t"), from = 512;
    std::vector<uint8_t> blocks(bytesOf(dtype, n)), part(bytesOf(dtype, 1024));
    fillRandom(blocks.data(), dtype, plan::Init::Uniform, 0.05f, key, 0, n);
    fillRandom(part.data(), dtype, plan::Init::Uniform, 0.05f, key, from, 1024);
    EXPECT_EQ(std::memcmp(part.data(), blocks.data() + bytesOf(dtype, from), part.size()), 0) << EnumNameDType(dtype);
    double sum = 0, squares = 0;
    for (float v : reference::dequantized(weightType(dtype), blocks)) {
      sum += v;
      squares += double(v) * v;
    }
    EXPECT_NEAR(sum / n, 0, 0.01) << EnumNameDType(dtype);
    EXPECT_NEAR(std::sqrt(squares / n), 0.05, 0.006) << EnumNameDType(dtype);
  }
}

TEST_F(Loader, ViewsAndStackedSources) {
  // Two tensors, one seen as [4, 3, 8] of which the heads 1 and 3 are taken, above the other's rows.
  const uint32_t a = checkpoint.add("a", plan::DType::F32, {12, 8}),
                 b = checkpoint.add("b", plan::DType::BF16, {5, 24});
  PlanBuilder plan = builder();
  const uint32_t w =
      plan.weight(a, plan::DType::F32, {{{3, 1}, {1, 1}}, {{0, 3}}, {{0, 8}}}, plan::Placement::Load, {4, 3, 8});
  plan::WeightT &weight = *plan.plan.weights[w];
  PlanBuilder::addSource(weight, b, {{{2, 2}}, {{0, 3}}, {{0, 8}}}, {5, 3, 8});
  weight.shape = {4, 3, 8};
  weight.bytes *= 2;
  plan.plan.ledger->weights_loaded = 1024;
  auto weights = load(plan.finish());
  ASSERT_TRUE(weights.ok()) << weights.status().message();
  const float *out = static_cast<const float *>((*weights)[w].data);
  for (uint64_t i = 0; i < 24; ++i) {
    EXPECT_EQ(out[i], checkpoint.values(a)[3 * 24 + i]);
    EXPECT_EQ(out[24 + i], checkpoint.values(a)[24 + i]);
    EXPECT_EQ(out[48 + i], checkpoint.values(b)[2 * 24 + i]);
    EXPECT_EQ(out[72 + i], checkpoint.values(b)[3 * 24 + i]);
  }
}

// A matrix that the file holds as [in, out], with padding: in every type, and with random weights the values of the
// places in the file.
TEST_F(Loader, TransposesWhatIsStoredSo) {
  for (plan::DType dtype : {plan::DType::F32, plan::DType::BF16, plan::DType::F16, plan::DType::Q8_0}) {
    SCOPED_TRACE(EnumNameDType(dtype));
    const uint32_t t = checkpoint.add(EnumNameDType(dtype), dtype, {50, 64});
    PlanBuilder plan = builder();
    const uint32_t part = plan.weight(t, plan::DType::F32, {{{20, 37}, {kZeroFill, 2}}, {{3, 40}}},
                                      plan::Placement::Load, {64, 50}),
                   half = plan.weight(t, plan::DType::BF16, {{{20, 37}, {kZeroFill, 2}}, {{3, 40}}},
                                      plan::Placement::Load, {64, 50}),
                   plain = plan.weight(t, plan::DType::F32);
    for (uint32_t w : {part, half})
      plan.plan.weights[w]->sources[0]->transposed = 1;
    plan.finish();
    for (bool random : {false, true}) {
      LoadOptions options;
      if (random)
        options.randomSeed = 3;
      auto weights = load(plan.plan, options);
      ASSERT_TRUE(weights.ok()) << weights.status().message();
      for (uint64_t r = 0; r < 39; ++r)
        for (uint64_t c = 0; c < 40; ++c) {
          const float expected = r < 37 ? at((*weights)[plain], c + 3, r + 20) : 0;
          ASSERT_EQ(at((*weights)[part], r, c), expected);
          ASSERT_NEAR(at((*weights)[half], r, c), expected, std::abs(expected) / 256);
        }
    }
  }
}

TEST_F(Loader, MapsWhereTheElementsLie) {
  checkpoint.add("before", plan::DType::BF16, {3, 5});
  const uint32_t t = checkpoint.add("t", plan::DType::BF16, {6, 40});
  PlanBuilder plan = builder();
  const uint32_t rows = plan.weight(t, plan::DType::BF16, {{{2, 3}}, {{0, 40}}}, plan::Placement::Map);
  const uint32_t columns = plan.weight(t, plan::DType::BF16, {{{0, 6}}, {{8, 16}}}, plan::Placement::Map);
  std::atomic<uint64_t> loaded{0};
  LoadOptions options;
  options.loadedBytes = &loaded;
  auto weights = load(plan.finish(), options);
  ASSERT_TRUE(weights.ok()) << weights.status().message();
  EXPECT_EQ((*weights)[rows].rowStride, 40u);
  EXPECT_EQ((*weights)[columns].rowStride, 40u);
  for (uint64_t r = 0; r < 3; ++r)
    for (uint64_t c = 0; c < 40; ++c)
      ASSERT_EQ(at((*weights)[rows], r, c), checkpoint.values(t)[(2 + r) * 40 + c]);
  for (uint64_t r = 0; r < 6; ++r)
    for (uint64_t c = 0; c < 16; ++c)
      ASSERT_EQ(at((*weights)[columns], r, c), checkpoint.values(t)[r * 40 + 8 + c]);
  EXPECT_EQ(loaded, (3u * 40 + 6 * 16) * 2);
}

// The same element has the same random value in the whole tensor and in any part, mapped or loaded, in any type.
TEST_F(Loader, RandomWeightsAreEqualAcrossShardings) {
  const uint32_t t = checkpoint.add("t", plan::DType::Q8_0, {8, 64}),
                 u = checkpoint.add("u", plan::DType::F32, {8, 64});
  PlanBuilder plan = builder();
  const uint32_t whole = plan.weight(t, plan::DType::F32), other = plan.weight(u, plan::DType::F32),
                 rows = plan.weight(t, plan::DType::F32, {{{4, 4}, {kZeroFill, 1}}, {{0, 64}}}),
                 columns = plan.weight(u, plan::DType::F32, {{{0, 8}}, {{24, 40}}}, plan::Placement::Map),
                 heads = plan.weight(t, plan::DType::F32, {{{2, 1}}, {{0, 2}}, {{0, 64}}}, plan::Placement::Load,
                                     {4, 2, 64}),
                 half = plan.weight(t, plan::DType::BF16), ones = plan.weight(t, plan::DType::F16);
  plan.plan.weights[ones]->init = plan::Init::Ones;
  plan.plan.weights[whole]->init_scale = plan.plan.weights[rows]->init_scale = .5f;
  plan.plan.weights[heads]->init_scale = plan.plan.weights[half]->init_scale = .5f;
  for (auto &tensor : plan.plan.tensors)
    tensor->file = -1; // compiled without weights
  plan.finish();
  auto weights = load(plan.plan, {.randomSeed = 5});
  ASSERT_TRUE(weights.ok()) << weights.status().message();
  double sum = 0, squares = 0;
  for (uint64_t r = 0; r < 8; ++r)
    for (uint64_t c = 0; c < 64; ++c) {
      const float value = at((*weights)[whole], r, c);
      sum += value;
      squares += value * value;
      if (r >= 4) {
        ASSERT_EQ(at((*weights)[rows], r - 4, c), value);
      }
      if (r == 4 || r == 5) {
        ASSERT_EQ(static_cast<const float *>((*weights)[heads].data)[(r - 4) * 64 + c], value);
      }
      if (c >= 24) {
        ASSERT_EQ(at((*weights)[columns], r, c - 24), at((*weights)[other], r, c));
      }
      ASSERT_NEAR(at((*weights)[half], r, c), value, std::abs(value) / 256);
      ASSERT_NE(value, at((*weights)[other], r, c));
      ASSERT_EQ(at((*weights)[ones], r, c), 1);
    }
  for (uint64_t c = 0; c < 64; ++c)
    ASSERT_EQ(at((*weights)[rows], 4, c), 0) << "padding stays zero";
  EXPECT_NEAR(sum / 512, 0, .1);
  EXPECT_NEAR(std::sqrt(squares / 512), .5, .05);

  auto again = load(plan.plan, {.randomSeed = 5}), different = load(plan.plan, {.randomSeed = 6});
  EXPECT_EQ(at((*again)[whole], 3, 3), at((*weights)[whole], 3, 3));
  EXPECT_NE(at((*different)[whole], 3, 3), at((*weights)[whole], 3, 3));
}

TEST_F(Loader, WithoutFilesOnlyRandomWeights) {
  checkpoint.add("t", plan::DType::F32, {4});
  PlanBuilder plan = builder();
  plan.weight(0, plan::DType::F32);
  plan.plan.tensors[0]->file = -1;
  auto weights = load(plan.finish());
  ASSERT_FALSE(weights.ok());
  EXPECT_EQ(weights.status().code(), Code::FailedPrecondition);
  EXPECT_THAT(weights.status().message(),
              ::testing::AllOf(HasSubstr("rank 0: weight t"), HasSubstr("--random-weights SEED")));
}

TEST_F(Loader, AnInterruptEndsTheLoad) {
  checkpoint.add("t", plan::DType::F32, {4});
  PlanBuilder plan = builder();
  plan.weight(0, plan::DType::F32);
  std::atomic<bool> interrupted{true};
  LoadOptions options;
  options.interrupted = &interrupted;
  EXPECT_EQ(load(plan.finish(), options).status().code(), Code::Cancelled);
}

// What a verified plan never holds is still an error here, not a crash.
TEST_F(Loader, WrongRangesAreErrors) {
  const uint32_t t = checkpoint.add("t", plan::DType::F32, {4, 8});
  auto expectError = [&](const char *text, plan::Placement placement, auto change) {
    PlanBuilder plan = builder();
    plan.weight(t, plan::DType::F32, {{{1, 2}}, {{0, 8}}}, placement);
    change(plan.plan);
    auto weights = load(plan.finish());
    ASSERT_FALSE(weights.ok()) << text;
    EXPECT_THAT(weights.status().message(), HasSubstr(text));
  };
  using P = plan::PlanT &;
  const auto Load = plan::Placement::Load, Map = plan::Placement::Map;
  auto segment = [](P p, uint32_t dim) -> plan::Segment & { return p.weights[0]->sources[0]->dims[dim]->segments[0]; };
  expectError("outside dimension 0", Load, [&](P p) { segment(p, 0) = {3, 2}; });
  expectError("outside dimension 1", Load, [&](P p) { segment(p, 1) = {~uint64_t(0) - 1, 8}; });
  expectError("have", Load, [&](P p) { segment(p, 0) = {1, 1}; });
  expectError("a view of", Load, [](P p) { p.weights[0]->sources[0]->view = {32}; });
  expectError("the view has", Load, [](P p) { p.weights[0]->sources[0]->view = {4, 9}; });
  expectError("tensor 7", Load, [](P p) { p.weights[0]->sources[0]->tensor = 7; });
  expectError("not a place in the weight memory", Load, [](P p) { p.weights[0]->offset = 256; });
  expectError("not a place in the weight memory", Load, [](P p) { p.weights[0]->offset = ~uint64_t(0) - 255; });
  expectError("do not hold its shape", Load, [](P p) { p.weights[0]->shape = {~uint64_t(0), 2}; });
  expectError("do not hold its shape", Load, [](P p) { p.weights[0]->bytes = 4; });
  expectError("are not its 32 elements", Load, [](P p) { p.tensors[0]->offset = 1 << 20; });
  expectError("are not its 32 elements", Load, [](P p) { p.tensors[0]->offset = ~uint64_t(0) - 8; });
  expectError("are not its 32 elements", Load, [](P p) { p.tensors[0]->bytes = 64; });
  expectError("file 3 of 1", Load, [](P p) { p.tensors[0]->file = 3; });
  expectError("cannot make F32 of I32", Load, [](P p) { p.tensors[0]->dtype = plan::DType::I32; });
  expectError("rows are not 9 elements apart", Map, [](P p) { p.weights[0]->row_stride = 9; });
  expectError("rows are not 8 elements apart", Map, [&](P p) { segment(p, 0) = {kZeroFill, 2}; });
  expectError("mapped as F32, but the file holds I32", Map, [](P p) { p.tensors[0]->dtype = plan::DType::I32; });
  expectError("not aligned", Map, [](P p) { p.tensors[0]->offset -= 2; });
}

} // namespace
} // namespace distc::test
