#include "runtime/base/File.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

namespace distc::test {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

TEST(MappedFiles, ReadWhatTheyMap) {
  const std::string path = ::testing::TempDir() + "/distc-file-test";
  std::string content(100000, ' ');
  for (size_t i = 0; i < content.size(); ++i)
    content[i] = static_cast<char>(i * 7 + i / 256);
  std::ofstream(path, std::ios::binary) << content;
  auto opened = MappedFile::open(path);
  ASSERT_TRUE(opened.ok()) << opened.status().message();
  const MappedFile file = opened.take(); // moved, with its descriptor
  std::vector<std::byte> part(50001);
  ASSERT_TRUE(file.read(12345, part).ok());
  EXPECT_TRUE(std::ranges::equal(part, file.bytes().subspan(12345, part.size())));
  EXPECT_TRUE(file.read(content.size(), {}).ok());

  std::filesystem::resize_file(path, 20000);
  const Status status = file.read(12345, part);
  EXPECT_EQ(status.code(), Code::DataLoss);
  EXPECT_THAT(status.message(), AllOf(HasSubstr(path), HasSubstr("ends after 20000 of 100000 bytes")));
  std::filesystem::remove(path);
}

} // namespace
} // namespace distc::test
