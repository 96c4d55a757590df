#include "TokenizerTestData.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace distc::test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

void unpack(const TemporaryFolder &folder, const std::string &name) {
  folder.write("tokenizer.json", readXz(name + "/tokenizer.json.xz"));
  folder.write("tokenizer_config.json", readTestFile(name + "/tokenizer_config.json"));
}

void expectSamples(const std::string &folderName, const std::string &vocabulary) {
  TemporaryFolder folder;
  unpack(folder, folderName);
  auto tokenizer = openTokenizer(import::importHfTokenizer(folder.path("")));
  ASSERT_TRUE(tokenizer);
  for (const Sample &sample : samples(vocabulary)) {
    auto ids = tokenizer->encode(sample.text, false, false);
    ASSERT_TRUE(ids.ok()) << ids.status().message();
    EXPECT_EQ(*ids, sample.ids) << "'" << sample.text << "'";
    EXPECT_EQ(*tokenizer->decode(sample.ids), sample.text);
  }
}

TEST(TokenizerHf, Llama3) { expectSamples("llama3", "llama-bpe"); }
TEST(TokenizerHf, Qwen3) { expectSamples("qwen3", "qwen2"); }

TEST(TokenizerHf, SpecialPieces) {
  TemporaryFolder folder;
  unpack(folder, "qwen3");
  folder.write("generation_config.json", R"({"eos_token_id": [151645, 151643]})");
  auto tokenizer = openTokenizer(import::importHfTokenizer(folder.path("")));
  ASSERT_TRUE(tokenizer);
  EXPECT_EQ(tokenizer->bos(), -1);
  EXPECT_EQ(tokenizer->eos(), 151645);
  EXPECT_TRUE(tokenizer->isEndOfGeneration(151643));
  EXPECT_FALSE(tokenizer->isEndOfGeneration(151644));
  EXPECT_THAT(*tokenizer->encode("<|im_end|><think>", false, true), ElementsAre(151645, 151667));
  EXPECT_THAT(*tokenizer->encode("<think>", false, false), ElementsAre(151667));
  EXPECT_GT(tokenizer->encode("<|im_end|>", false, false)->size(), 1u);
  EXPECT_EQ(*tokenizer->decode({151645, 151667}), "<think>");
  EXPECT_THAT(std::string(tokenizer->chatTemplate()), HasSubstr("add_generation_prompt"));
}

TEST(TokenizerHf, NothingThere) {
  TemporaryFolder folder;
  auto bytes = import::importHfTokenizer(folder.path(""));
  ASSERT_TRUE(bytes.ok());
  EXPECT_FALSE(bytes->has_value());
}

TEST(TokenizerHf, UnsupportedModelIsNamed) {
  TemporaryFolder folder;
  folder.write("tokenizer.json", R"({"model": {"type": "Unigram", "vocab": []}, "pre_tokenizer": {"type": "ByteLevel"},
                                     "decoder": {"type": "ByteLevel"}})");
  auto bytes = import::importHfTokenizer(folder.path(""));
  ASSERT_FALSE(bytes.ok());
  EXPECT_THAT(bytes.status().message(), HasSubstr("model 'Unigram' is not supported"));
}

} // namespace
} // namespace distc::test
