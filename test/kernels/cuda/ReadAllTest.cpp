// Reads that measure bandwidth must have read every byte.
#include "DeviceTest.h"

namespace distc::cuda {
namespace {

class CudaReadAllTest : public DeviceTest {};

TEST_F(CudaReadAllTest, ReadsAllBytesOnce) {
  // Fewer than a copy, not all of the last one, more than what is under way on 132 multiprocessors.
  for (size_t pieces : {size_t(0), size_t(1), size_t(1023), size_t(1025), size_t(70001), size_t(3500000)}) {
    std::vector<uint32_t> data(pieces * 4);
    for (uint32_t &word : data)
      word = uint32_t(random.engine());
    uint32_t expected = 0;
    for (size_t i = 0; i < data.size(); i += 4)
      expected += data[i] ^ data[i + 1] ^ data[i + 2] ^ data[i + 3];
    const DeviceArray<uint32_t> memory(data);
    for (const auto read : {readAll, readAllByCopies}) {
      const DeviceArray<uint32_t> sum({5});
      ASSERT_CUDA(read(memory.data(), data.size() * 4, nullptr, sum.data()));
      ASSERT_CUDA(read(memory.data(), data.size() * 4, nullptr, nullptr));
      EXPECT_EQ(sum.values()[0], expected + 5) << pieces << (read == readAll ? " by loads" : " by copies");
    }
  }
}

} // namespace
} // namespace distc::cuda
