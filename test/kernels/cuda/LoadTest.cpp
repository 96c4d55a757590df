// What loading needs: conversions, block formats, random weights.
#include "DeviceTest.h"
#include "distc/kernels/Cpu.h"
#include "runtime/plan/RandomWeights.h"
#include "test/kernels/Blocks.h"

namespace distc::cuda {
namespace {

class CudaLoadTest : public DeviceTest {};

TEST_F(CudaLoadTest, ConversionsRoundToNearestEven) {
  // Every half and every bfloat16 but the NaNs; ties between neighbours; and what overflows or vanishes.
  std::vector<float> values;
  for (Type type : {Type::F16, Type::BF16})
    for (uint32_t bits = 0; bits < 0x10000; ++bits)
      if (const float v = decode(bits, type), next = decode(bits + 1, type); std::isfinite(v) && std::isfinite(next))
        values.insert(values.end(), {v, v / 2 + next / 2, std::nextafter(v / 2 + next / 2, v)});
  for (float v : {65519.0f, 65520.0f, 1e38f, -3.4e38f, INFINITY, -INFINITY, 1e-45f, -0.0f})
    values.push_back(v);
  values.resize((values.size() + 7) / 8 * 8); // whole vectors
  for (Type from : types)
    for (Type to : types)
      for (bool shifted : {false, true}) {
        const auto in = rounded(values, from);
        const DeviceValues source(in, from, shifted), out(in.size(), to, shifted);
        ASSERT_CUDA(convert(source, int64_t(in.size()), out, nullptr));
        EXPECT_EQ(out.bytes(), DeviceValues(in, to).bytes()) << int(from) << " to " << int(to);
      }
  const DeviceValues nan(std::vector<float>(9, std::nanf("")), Type::F32), out(std::vector<float>(9), Type::BF16);
  ASSERT_CUDA(convert(nan, 9, out, nullptr));
  for (float v : out.values())
    EXPECT_TRUE(std::isnan(v));
}

TEST_F(CudaLoadTest, DequantizeAsTheCpuDoes) {
  std::mt19937 bytes(unsigned(uniform(0, 1 << 30)));
  for (WeightType quantized : reference::kQuantizedTypes) {
    const int64_t n = 307 * blockElements(quantized);
    const std::vector<uint8_t> source = reference::randomBlocks(quantized, 307, bytes);
    std::vector<float> expected(n);
    cpu::dequantize(source.data(), quantized, expected.data(), n);
    DeviceBytes from(source.size(), 1);
    from.set(source.data());
    for (Type type : types) {
      const DeviceValues out(n, type, type == Type::F16);
      ASSERT_CUDA(dequantize(quantized, from.data(), n, out, nullptr));
      EXPECT_EQ(out.values(), rounded(expected, type)) << int(quantized) << " to type " << int(type);
      EXPECT_EQ(dequantize(quantized, from.data(), n - 1, out, nullptr), cudaErrorInvalidValue);
    }
  }
}

TEST_F(CudaLoadTest, RandomWeightsAreTheRuntimes) {
  const plan::DType dtypes[] = {plan::DType::F32, plan::DType::F16, plan::DType::BF16};
  const plan::Init inits[] = {plan::Init::Uniform, plan::Init::Ones, plan::Init::Zeros};
  for (Type type : types)
    for (Init init : {Init::Uniform, Init::Ones, Init::Zeros})
      for (int64_t n : {5, 4096, 100003}) {
        const uint64_t key = randomKey(uint64_t(uniform(0, 1000)), "a tensor"), from = uint64_t(uniform(0, 1ll << 40));
        std::vector<unsigned char> expected(n * bytesOf(type));
        fillRandom(expected.data(), dtypes[int(type)], inits[int(init)], 0.0371f, key, from, uint64_t(n));
        const DeviceValues out(n, type, n == 5);
        ASSERT_CUDA(randomWeights(init, 0.0371f, key, from, n, out, nullptr));
        EXPECT_EQ(out.bytes(), expected) << int(type) << int(init);
      }
}

} // namespace
} // namespace distc::cuda
