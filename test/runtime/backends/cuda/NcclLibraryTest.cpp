// What is said where NCCL is missing or not the one that is needed: needs no device.
#include "runtime/backends/cuda/NcclLibrary.h"

#include <gmock/gmock.h>

namespace distc::test {
namespace {

using ::testing::AllOf;
using ::testing::EndsWith;
using ::testing::HasSubstr;

constexpr const char *kAdvice = "; install it, or set LD_LIBRARY_PATH to its folder";

TEST(CudaNcclLibrary, Missing) {
  const auto library = nccl::load("libnccl-of-nobody.so.2");
  EXPECT_EQ(library.status().code(), Code::FailedPrecondition);
  EXPECT_THAT(library.status().message(),
              AllOf(HasSubstr("ranks on GPUs of their own exchange through NCCL, which cannot be loaded: "),
                    HasSubstr("libnccl-of-nobody.so.2"), HasSubstr(kAdvice)));
}

TEST(CudaNcclLibrary, TooOld) {
  const auto library = nccl::load(DISTC_TEST_OLD_NCCL);
  EXPECT_EQ(library.status().code(), Code::FailedPrecondition);
  EXPECT_EQ(library.status().message(),
            std::string(DISTC_TEST_OLD_NCCL " is NCCL 2.13.4, and 2.14.0 or newer is needed") + kAdvice);
}

TEST(CudaNcclLibrary, WithoutAFunction) {
  const auto library = nccl::load(DISTC_TEST_PARTIAL_NCCL);
  EXPECT_EQ(library.status().code(), Code::FailedPrecondition);
  EXPECT_THAT(library.status().message(),
              AllOf(HasSubstr(" is NCCL 2.28.3 without ncclGetUniqueId, and "), EndsWith(kAdvice)));
}

TEST(CudaNcclLibrary, AnotherLibrary) {
  EXPECT_THAT(
      nccl::load("libm.so.6").status().message(),
      AllOf(HasSubstr("libm.so.6 is not NCCL: it has no ncclGetVersion; NCCL 2.14.0 or newer"), EndsWith(kAdvice)));
}

} // namespace
} // namespace distc::test
