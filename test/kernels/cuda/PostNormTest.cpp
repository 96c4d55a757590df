#include "DeviceTest.h"

namespace distc::cuda {
namespace {

class CudaPostNormTest : public DeviceTest {};

TEST_F(CudaPostNormTest, AgreesWithDoubles) {
  for (Type type : types)
    for (int64_t width : {7, 64, 256, 3584, 4096})
      for (bool shifted : {false, true})
        for (float offset : {0.0f, 1.0f}) {
          const int64_t rows = 5;
          const auto x = rounded(normal(rows * width, 3.0f), type), residual = rounded(normal(rows * width), type);
          std::vector<float> weight = normal(width), factors = weight;
          for (float &factor : factors)
            factor += offset;
          const DeviceValues dx(x, type, shifted), dResidual(residual, type), dWeight(weight, Type::F32),
              y(x.size(), type, shifted), overResidual(residual, type), parts(x.size(), type);
          ASSERT_CUDA(rmsNorm(dx, dWeight, 1e-5f, width, rows, y, nullptr, offset, dResidual));
          std::vector<double> expected = reference::rmsNorm(x, factors, 1e-5);
          for (size_t i = 0; i < expected.size(); ++i)
            expected[i] += residual[i];
          EXPECT_LE(relativeError(y.values().data(), expected), bound(type, 1e-6)) << width;
          ASSERT_CUDA(rmsNorm(dx, dWeight, 1e-5f, width, rows, overResidual, nullptr, offset, overResidual));
          EXPECT_EQ(y.bytes(), overResidual.bytes()) << width;
          for (int64_t t = rows; t-- > 0;) {
            const auto at = [&](const DeviceValues &values) {
              return static_cast<char *>(values.data()) + t * width * bytesOf(type);
            };
            ASSERT_CUDA(rmsNorm({at(dx), type}, dWeight, 1e-5f, width, 1, {at(parts), type}, nullptr, offset,
                                {at(dResidual), type}));
          }
          EXPECT_EQ(y.bytes(), parts.bytes()) << width;
          ASSERT_CUDA(rmsNorm(dx, dWeight, 1e-5f, width, rows, dx, nullptr, offset, dResidual));
          EXPECT_EQ(y.bytes(), dx.bytes()) << width;
        }
  const DeviceValues half(8, Type::F16), full(8, Type::F32);
  EXPECT_EQ(rmsNorm(half, full, 1e-5f, 8, 1, half, nullptr, 0.0f, full), cudaErrorInvalidValue);
}

} // namespace
} // namespace distc::cuda
