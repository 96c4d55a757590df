#include "TokenizerTestData.h"

#include "runtime/base/File.h"

#include <gtest/gtest.h>
#include <lzma.h>

#include <cstdlib>
#include <sstream>

namespace distc::test {

TemporaryFolder::TemporaryFolder() {
  std::string pattern = (std::filesystem::temp_directory_path() / "distc-test-XXXXXX").string();
  path_ = mkdtemp(pattern.data());
}

TemporaryFolder::~TemporaryFolder() { std::filesystem::remove_all(path_); }

void TemporaryFolder::write(const std::string &name, std::string_view bytes) const {
  ASSERT_TRUE(writeFileAtomically(path(name), std::as_bytes(std::span(bytes))).ok());
}

std::string readTestFile(const std::string &name) {
  auto bytes = readFile(DISTC_SOURCE_DIR "/test/data/tokenizers/" + name);
  EXPECT_TRUE(bytes.ok()) << bytes.status().message();
  return bytes.ok() ? *bytes : std::string();
}

std::string readXz(const std::string &name) {
  std::string packed = readTestFile(name);
  std::string bytes(32 << 20, '\0');
  uint64_t memory = UINT64_MAX;
  size_t in = 0, out = 0;
  lzma_ret result =
      lzma_stream_buffer_decode(&memory, 0, nullptr, reinterpret_cast<const uint8_t *>(packed.data()), &in,
                                packed.size(), reinterpret_cast<uint8_t *>(bytes.data()), &out, bytes.size());
  EXPECT_EQ(result, LZMA_OK) << name;
  bytes.resize(out);
  return bytes;
}

std::vector<Sample> samples(const std::string &vocabulary) {
  const std::string separator = "\n__ggml_vocab_test__\n";
  std::string texts = readTestFile("ggml-vocab.inp");
  std::istringstream lines(readTestFile("ggml-vocab-" + vocabulary + ".out"));
  std::vector<Sample> all;
  for (size_t begin = 0; begin < texts.size();) {
    size_t end = texts.find(separator, begin);
    Sample sample{texts.substr(begin, end == std::string::npos ? end : end - begin), {}};
    std::string line;
    EXPECT_TRUE(std::getline(lines, line)) << "more texts than lines of ids";
    std::istringstream ids(line);
    for (int32_t id; ids >> id;)
      sample.ids.push_back(id);
    all.push_back(std::move(sample));
    begin = end == std::string::npos ? texts.size() : end + separator.size();
  }
  std::string more;
  EXPECT_FALSE(std::getline(lines, more) && !more.empty()) << "more lines of ids than texts";
  EXPECT_GT(all.size(), 40u);
  return all;
}

std::unique_ptr<Tokenizer> openTokenizer(Result<import::TokenizerBytes> bytes) {
  if (!bytes.ok() || !*bytes) {
    ADD_FAILURE() << (bytes.ok() ? "no tokenizer" : bytes.status().message());
    return nullptr;
  }
  auto tokenizer = Tokenizer::fromBytes(std::string((*bytes)->begin(), (*bytes)->end()), "test");
  if (!tokenizer.ok()) {
    ADD_FAILURE() << tokenizer.status().message();
    return nullptr;
  }
  return tokenizer.take();
}

} // namespace distc::test
