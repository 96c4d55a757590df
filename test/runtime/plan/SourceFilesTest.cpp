#include "runtime/plan/SourceFiles.h"
#include "PlanBuilder.h"

#include <gmock/gmock.h>

namespace distc::test {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

class Files : public ::testing::Test {
protected:
  Files() { checkpoint.add("t", plan::DType::F32, {100}); }

  Result<SourceFiles> open(const std::string &path, const std::string &weights = "") {
    PlanBuilder plan(checkpoint, path, 1, 1, 0);
    payload = packPayload(plan.finish());
    SourceFileCache cache(folder.path(), weights);
    return cache.open(*flatbuffers::GetRoot<plan::Plan>(payload.data()));
  }

  TemporaryFolder folder;
  Checkpoint checkpoint{freshSeed()};
  std::vector<uint8_t> payload;
};

TEST_F(Files, RelativeToThePlanOrAbsoluteOrElsewhere) {
  std::filesystem::create_directory(folder / "moved");
  checkpoint.write(folder / "model.bin");
  checkpoint.write(folder / "moved/model.bin");
  checkpoint.write(folder / "moved/other.bin");
  EXPECT_TRUE(open("model.bin").ok());
  EXPECT_TRUE(open("moved/../model.bin").ok());
  EXPECT_TRUE(open(folder / "model.bin").ok());
  EXPECT_FALSE(open("gone/model.bin").ok());
  auto moved = open("gone/model.bin", folder / "moved");
  ASSERT_TRUE(moved.ok()) << moved.status().message();
  EXPECT_EQ((*moved)[0]->path(), folder / "moved/model.bin");
  EXPECT_TRUE(open("gone/model.bin", folder / "moved/other.bin").ok()) << "the one file may have another name";
}

TEST_F(Files, AMissingFileSaysWhatToDo) {
  auto files = open("model.bin");
  ASSERT_FALSE(files.ok());
  EXPECT_EQ(files.status().code(), Code::FailedPrecondition);
  EXPECT_THAT(files.status().message(), AllOf(HasSubstr(folder / "model.bin"), HasSubstr("--weights DIR")));
}

TEST_F(Files, AChangedFileIsRefused) {
  std::ofstream(folder / "model.bin") << checkpoint.bytes() << "x";
  const size_t size = checkpoint.bytes().size();
  auto longer = open("model.bin");
  ASSERT_FALSE(longer.ok());
  EXPECT_EQ(longer.status().message(), folder / "model.bin" + ": changed since compile: size is " +
                                           std::to_string(size + 1) + ", expected " + std::to_string(size) +
                                           "; compile again, or point --weights DIR to the checkpoint");
  std::string other = checkpoint.bytes();
  other[10] ^= 1;
  std::ofstream(folder / "model.bin") << other;
  EXPECT_THAT(open("model.bin").status().message(), HasSubstr("changed since compile: its header"));
  other[10] ^= 1;
  other.back() ^= 1; // the contents are not hashed
  std::ofstream(folder / "model.bin") << other;
  EXPECT_TRUE(open("model.bin").ok());
}

TEST_F(Files, AHeaderLongerThanTheFileIsAnError) {
  checkpoint.write(folder / "model.bin");
  PlanBuilder plan(checkpoint, "model.bin", 1, 1, 0);
  plan.plan.files[0]->header_bytes = ~uint64_t(0);
  payload = packPayload(plan.finish());
  SourceFileCache cache(folder.path(), "");
  EXPECT_EQ(cache.open(*flatbuffers::GetRoot<plan::Plan>(payload.data())).status().code(), Code::DataLoss);
}

} // namespace
} // namespace distc::test
