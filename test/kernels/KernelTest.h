// What the kernel tests share: a run under each SIMD target of this machine, fresh random data, guarded outputs.
#pragma once

#include "distc/kernels/Cpu.h"
#include "test/kernels/Reference.h"

#include "hwy/base.h"
#include "hwy/targets.h"

#include <cstring>
#include <limits>

namespace distc::cpu {

using reference::relativeError;

/// The targets that this machine runs, and the scalar fallback.
inline std::vector<int64_t> testTargets() {
  std::vector<int64_t> targets;
  for (int64_t target : {int64_t(HWY_AVX3), int64_t(HWY_AVX2), int64_t(HWY_SSE4), int64_t(HWY_NEON)})
    if (hwy::SupportedTargets() & HWY_TARGETS & target)
      targets.push_back(target);
  targets.push_back(HWY_STATIC_TARGET);
  return targets;
}

class KernelTest : public testing::TestWithParam<int64_t> {
protected:
  void SetUp() override {
    hwy::GetChosenTarget().Update(GetParam());
    ASSERT_STREQ(simdTarget(), hwy::TargetName(GetParam()));
  }
  void TearDown() override { hwy::GetChosenTarget().DeInit(); }

  std::vector<float> normal(size_t n, float deviation = 1.0f) { return random.normal(n, deviation); }
  int64_t uniform(int64_t low, int64_t high) { return random.uniform(low, high); }

  reference::Random random;
};

#define DISTC_KERNEL_SUITE(Suite)                                                                                      \
  INSTANTIATE_TEST_SUITE_P(Simd, Suite, testing::ValuesIn(testTargets()),                                              \
                           [](const auto &info) { return std::string(hwy::TargetName(info.param)); })

/// n outputs, all NaN before the call, between canaries that must outlive it.
class Guarded {
public:
  explicit Guarded(size_t n) : values(n + 2 * margin, canary) {
    std::fill_n(data(), n, std::numeric_limits<float>::quiet_NaN());
  }
  explicit Guarded(const std::vector<float> &content) : Guarded(content.size()) {
    std::copy(content.begin(), content.end(), data());
  }
  ~Guarded() {
    for (size_t i = 0; i < margin; ++i)
      EXPECT_TRUE(values[i] == canary && values[values.size() - 1 - i] == canary) << "written outside, " << i;
  }
  Guarded(const Guarded &) = delete;
  float *data() { return values.data() + margin; }
  size_t size() const { return values.size() - 2 * margin; }
  float operator[](size_t i) const { return values[margin + i]; }

private:
  static constexpr size_t margin = 65; // odd, so that the data is aligned to its element only
  static constexpr float canary = 12345.678f;
  std::vector<float> values;
};

inline bool sameBits(const float *a, const float *b, size_t n) { return std::memcmp(a, b, n * sizeof(float)) == 0; }

/// Values as a weight of the given type, at an address aligned to its element only; `exact` is what was stored.
struct StoredWeight {
  StoredWeight(const std::vector<float> &values, WeightType type)
      : bytes(values.size() * 4 + 64), exact(values.size()) {
    const size_t size = type == WeightType::F32 ? 4 : 2;
    for (size_t i = 0; i < values.size(); ++i) {
      uint32_t bits;
      std::memcpy(&bits, &values[i], 4);
      if (type == WeightType::BF16) {
        bits >>= 16;
        const uint32_t widened = bits << 16;
        std::memcpy(&exact[i], &widened, 4);
      } else if (type == WeightType::F16) {
        bits = encodeF16(values[i], exact[i]);
      } else {
        exact[i] = values[i];
      }
      std::memcpy(bytes.data() + offset + i * size, &bits, size);
    }
  }
  const void *data() const { return bytes.data() + offset; }

  /// The half nearest to zero, for |v| < 65504.
  static uint32_t encodeF16(float v, float &exactValue) {
    const uint32_t sign = std::signbit(v) ? 0x8000u : 0u;
    const float magnitude = std::fabs(v);
    int exponent = magnitude > 0 ? std::max(std::ilogb(magnitude), -14) : -14;
    const auto mantissa = uint32_t(std::ldexp(magnitude, 10 - exponent)); // 1024..2047 if normal
    exactValue = std::ldexp(float(mantissa), exponent - 10) * (sign ? -1.0f : 1.0f);
    return sign | (mantissa >= 1024 ? uint32_t(exponent + 15) << 10 | (mantissa - 1024) : mantissa);
  }

  static constexpr size_t offset = 36; // not a multiple of 8
  std::vector<unsigned char> bytes;
  std::vector<float> exact;
};

} // namespace distc::cpu
