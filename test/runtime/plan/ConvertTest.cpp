// Conversions at load: to the last bit what rounding to the nearest, ties to even, gives.
#include "runtime/plan/Convert.h"
#include "Checkpoint.h"
#include "runtime/plan/RandomWeights.h"

#include <cmath>

namespace distc::test {
namespace {

using plan::DType;

template <typename To> To bitsOf(const void *from) {
  To value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

/// An element of a type of 16 bits, or of F32, as double.
double valueOf(uint32_t bits, DType type) {
  if (type == DType::BF16)
    bits <<= 16;
  return type == DType::F16 ? double(bitsOf<_Float16>(&bits)) : bitsOf<float>(&bits);
}

/// The reference: the nearest multiple of the last place, by the arithmetic of doubles, in which all this is exact.
double rounded(double value, DType type) {
  const int precision = type == DType::BF16 ? 8 : 11, least = type == DType::BF16 ? -126 : -14,
            most = type == DType::BF16 ? 127 : 15;
  if (value == 0 || !std::isfinite(value))
    return value;
  const double place = std::ldexp(1, std::max(std::ilogb(value), least) - precision + 1);
  const double result = std::nearbyint(value / place) * place;
  return std::fabs(result) < std::ldexp(1, most + 1) ? result : std::copysign(HUGE_VAL, value);
}

uint32_t elementAt(const std::vector<std::byte> &out, uint64_t i, DType type) {
  return type == DType::F32 ? bitsOf<uint32_t>(&out[i * 4]) : bitsOf<uint16_t>(&out[i * 2]);
}

void expectRounded(double value, uint32_t bits, DType type) {
  const double actual = valueOf(bits, type), expected = rounded(value, type);
  if (std::isnan(value))
    EXPECT_TRUE(std::isnan(actual)) << "NaN became " << actual;
  else
    EXPECT_TRUE(actual == expected && std::signbit(actual) == std::signbit(expected))
        << std::hexfloat << value << " became " << actual << ", expected " << expected;
}

// F32 of every exponent, with the ties and their neighbours, to both types.
TEST(Convert, RoundsToTheNearest) {
  std::mt19937 random(freshSeed());
  std::vector<uint32_t> source = {0x00000000, 0x80000000, 0x7f800000, 0xff800000, 0x7f800001, 0x7fffffff, 0xffc00000,
                                  0x7f7fffff, 0xff7f8000, 0x7f7f7fff, 0x00000001, 0x80008000, 0x00018000, 0x477fefff,
                                  0x477ff000, 0x33000000, 0x33000001, 0x33c00000, 0x387fe000, 0x387ff000};
  for (uint32_t exponent = 0; exponent < 256; ++exponent)
    for (int i = 0; i < 200; ++i) {
      uint32_t bits = exponent << 23 | (random() & 0x807fffff);
      if (i % 4 == 1) // between two of bf16
        bits = (bits & 0xffff0000) | (0x7fff + i % 3);
      if (i % 4 == 2) // between two of f16
        bits = (bits & 0xffffe000) | (0x0fff + i % 3);
      source.push_back(bits);
    }
  for (DType to : {DType::BF16, DType::F16}) {
    std::vector<std::byte> out(source.size() * 2);
    convert(source.data(), DType::F32, 0, source.size(), out.data(), to);
    for (uint64_t i = 0; i < source.size(); ++i)
      expectRounded(valueOf(source[i], DType::F32), elementAt(out, i, to), to);
  }
}

// From every type to every type, from an odd address, any range: blocks cut at both ends, more than fits on the way.
TEST(Convert, AnyRangeOfAnyType) {
  Checkpoint checkpoint(freshSeed());
  constexpr uint64_t kElements = 96 * 32;
  for (DType from : {DType::F32, DType::F16, DType::BF16, DType::Q8_0, DType::Q4_1}) {
    const uint32_t t = checkpoint.add(EnumNameDType(from), from, {kElements});
    const std::string odd = "x" + checkpoint.bytes().substr(checkpoint.tensors()[t].offset);
    for (DType to : {DType::F32, DType::F16, DType::BF16}) {
      SCOPED_TRACE(std::string(EnumNameDType(from)) + " to " + EnumNameDType(to));
      EXPECT_TRUE(canConvert(from, to));
      const std::pair<uint64_t, uint64_t> ranges[] = {{0, kElements}, {37, 2999}, {64, 1025}, {5, 7}};
      for (auto [first, count] : ranges) {
        std::vector<std::byte> out(count * 4);
        convert(odd.data() + 1, from, first, count, out.data(), to);
        for (uint64_t i = 0; i < count; ++i) {
          const float exact = checkpoint.values(t)[first + i];
          if (to == DType::F32)
            ASSERT_EQ(valueOf(elementAt(out, i, to), to), exact);
          else
            expectRounded(exact, elementAt(out, i, to), to);
        }
      }
    }
    EXPECT_FALSE(canConvert(from, DType::I32));
  }
  EXPECT_FALSE(canConvert(DType::I32, DType::F32));
}

// A random weight of 16 bits is the one of F32, rounded.
TEST(Convert, RandomWeightsAreRoundedAlike) {
  const uint64_t key = randomKey(freshSeed(), "w");
  for (DType to : {DType::F16, DType::BF16}) {
    std::vector<std::byte> out(1000 * 2);
    fillRandom(out.data(), to, plan::Init::Uniform, .02f, key, 17, 1000);
    for (uint64_t i = 0; i < 1000; ++i)
      expectRounded(randomValue(key, 17 + i) * .02f, elementAt(out, i, to), to);
  }
}

} // namespace
} // namespace distc::test
