// Tokenizer files that are damaged, and a small one that is not.
#include "runtime/text/Tokenizer.h"
#include "runtime/schema/tokenizer_generated.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

namespace distc {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using tok::PieceKind;

tok::TokenizerT smallBpe() {
  tok::TokenizerT table;
  table.model = tok::Model::Bpe;
  table.pieces = {"a", "b", "ab", "aba", "<x>"};
  table.kinds = {PieceKind::Normal, PieceKind::Normal, PieceKind::Normal, PieceKind::Normal, PieceKind::Control};
  table.merges = {tok::Merge(0, 1, 2), tok::Merge(2, 0, 3)};
  return table;
}

std::string bytesOf(const tok::TokenizerT &table) {
  flatbuffers::FlatBufferBuilder builder;
  tok::FinishTokenizerBuffer(builder, tok::Tokenizer::Pack(builder, &table));
  return std::string(reinterpret_cast<const char *>(builder.GetBufferPointer()), builder.GetSize());
}

std::string errorOf(const tok::TokenizerT &table) {
  auto opened = Tokenizer::fromBytes(bytesOf(table), "x.dtok");
  return opened.ok() ? "no error" : opened.status().message();
}

TEST(Tokenizer, Small) {
  auto tokenizer = Tokenizer::fromBytes(bytesOf(smallBpe()), "x.dtok");
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status().message();
  EXPECT_THAT(*(*tokenizer)->encode("ababb<x>", false, true), ElementsAre(2, 2, 1, 4));
  EXPECT_FALSE((*tokenizer)->encode("abz", false, false).ok());
  EXPECT_FALSE((*tokenizer)->encode("\xff", false, false).ok());
  EXPECT_EQ(*(*tokenizer)->decode({3, 5, 1}), "abab") << "an id beyond the vocabulary has no text";
  EXPECT_FALSE((*tokenizer)->decode({-1}).ok());
  EXPECT_EQ(*(*tokenizer)->decode({3, 4, 1}), "abab");
}

TEST(Tokenizer, BadFiles) {
  tok::TokenizerT table = smallBpe();
  table.kinds.pop_back();
  EXPECT_THAT(errorOf(table), HasSubstr("4 kinds for 5 pieces"));
  table = smallBpe();
  table.merges.emplace_back(0, 9, 2);
  EXPECT_THAT(errorOf(table), HasSubstr("merge 2 names a piece out of range"));
  table = smallBpe();
  table.merges.emplace_back(2, 0, 2);
  EXPECT_THAT(errorOf(table), HasSubstr("joined"));
  table = smallBpe();
  table.merges.emplace_back(0, 1, 2);
  EXPECT_THAT(errorOf(table), HasSubstr("is there twice"));
  table = smallBpe();
  table.pre_tokenizer = {"(a"};
  EXPECT_THAT(errorOf(table), HasSubstr("pre-tokenizer pattern '(a'"));
  table = smallBpe();
  table.normal_pieces = {4};
  EXPECT_THAT(errorOf(table), HasSubstr("0 spellings in normalized text for 1 pieces"));
  table = smallBpe();
  table.normal_pieces = {5};
  table.normal_spellings = {"x"};
  EXPECT_THAT(errorOf(table), HasSubstr("a piece of normalized text is piece 5, there are 5"));
  table = smallBpe();
  table.bos = 7;
  EXPECT_THAT(errorOf(table), HasSubstr("bos is piece 7"));
}

TEST(Tokenizer, CostlyPatternFails) {
  tok::TokenizerT table = smallBpe();
  table.pre_tokenizer = {"(a+)+[cd]"};
  auto tokenizer = Tokenizer::fromBytes(bytesOf(table), "x.dtok");
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status().message();
  auto ids = (*tokenizer)->encode(std::string(60, 'a') + "b", false, false);
  ASSERT_FALSE(ids.ok());
  EXPECT_EQ(ids.status().code(), Code::ResourceExhausted);
}

TEST(Tokenizer, LongWordIsNotQuadratic) {
  auto tokenizer = Tokenizer::fromBytes(bytesOf(smallBpe()), "x.dtok");
  ASSERT_TRUE(tokenizer.ok());
  EXPECT_EQ((*tokenizer)->encode(std::string(1 << 20, 'a'), false, false)->size(), size_t(1) << 20);
}

TEST(Tokenizer, DamagedBytesNeverCrash) {
  unsigned seed = std::random_device()();
  RecordProperty("seed", std::to_string(seed));
  std::mt19937 random(seed);
  std::string good = bytesOf(smallBpe());
  for (int i = 0; i < 3000; ++i) {
    std::string bytes = good;
    for (int n = 1 + random() % 3; n > 0; --n)
      bytes[random() % bytes.size()] = static_cast<char>(random());
    auto tokenizer = Tokenizer::fromBytes(bytes, "x.dtok");
    if (tokenizer.ok())
      (void)(*tokenizer)->encode("abab <x>", true, true);
  }
}

} // namespace
} // namespace distc
