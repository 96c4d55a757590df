#include "TokenizerTestData.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace distc::test {
namespace {

using import::GgufMetadata;
using testing::ElementsAre;
using testing::HasSubstr;

GgufMetadata vocabularyOf(const std::string &name) {
  TemporaryFolder folder;
  folder.write("vocab.gguf", readXz("ggml-vocab-" + name + ".gguf.xz"));
  auto file = import::readGguf(folder.path("vocab.gguf"));
  EXPECT_TRUE(file.ok()) << file.status().message();
  return file.ok() ? file->metadata : GgufMetadata();
}

void expectSamples(const Tokenizer &tokenizer, const std::string &vocabulary) {
  for (const Sample &sample : samples(vocabulary)) {
    auto ids = tokenizer.encode(sample.text, false, false);
    ASSERT_TRUE(ids.ok()) << ids.status().message();
    EXPECT_EQ(*ids, sample.ids) << "'" << sample.text << "'";
    EXPECT_EQ(*tokenizer.decode(sample.ids), sample.text);
    Tokenizer::Stream stream(tokenizer);
    std::string streamed;
    for (int32_t id : sample.ids)
      streamed += *stream.push(id);
    EXPECT_EQ(streamed + stream.finish(), sample.text);
  }
}

TEST(TokenizerGguf, Gpt2) {
  auto tokenizer = openTokenizer(import::importGgufTokenizer(vocabularyOf("gpt-2"), "gpt-2"));
  ASSERT_TRUE(tokenizer);
  EXPECT_EQ(tokenizer->vocabulary(), 50257u);
  EXPECT_EQ(tokenizer->bos(), 50256);
  expectSamples(*tokenizer, "gpt-2");
}

TEST(TokenizerGguf, LlamaSpm) {
  auto tokenizer = openTokenizer(import::importGgufTokenizer(vocabularyOf("llama-spm"), "llama-spm"));
  ASSERT_TRUE(tokenizer);
  EXPECT_EQ(tokenizer->vocabulary(), 32000u);
  EXPECT_TRUE(tokenizer->isEndOfGeneration(2));
  EXPECT_FALSE(tokenizer->isEndOfGeneration(1));
  EXPECT_THAT(*tokenizer->encode("Hello", true, false), ElementsAre(1, 15043));
  expectSamples(*tokenizer, "llama-spm");
}

} // namespace
} // namespace distc::test
