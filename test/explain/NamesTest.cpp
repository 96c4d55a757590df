#include "compiler/Explain/Names.h"

#include <gmock/gmock.h>

namespace distc::explain {
namespace {

TEST(Names, NumbersStandBetweenDots) {
  const NumberedName name = numbered("layers.12.experts.3.w1");
  EXPECT_EQ(name.pattern, "layers.*.experts.*.w1");
  EXPECT_EQ(name.numbers, (std::vector<uint32_t>{12, 3}));
  EXPECT_EQ(numbered("embedding").pattern, "embedding");
  EXPECT_EQ(numbered("a.99999999999.b").pattern, "a.99999999999.b"); // no number of ours
  EXPECT_EQ(numbered("7").pattern, "*");
  EXPECT_EQ(numbered("").pattern, "");
  EXPECT_EQ(numbered("a..1").pattern, "a..*");
}

TEST(Names, RangesAreSortedAndJoined) {
  EXPECT_EQ(rangesText({3, 1, 2, 7, 2}), "1-3, 7");
  EXPECT_EQ(rangesText({}), "");
}

TEST(Names, JoinedNamesTellEveryNumber) {
  EXPECT_EQ(joinedName("layers.*.q", {{0}, {1}, {2}}), "layers.0-2.q");
  EXPECT_EQ(joinedName("layers.*.q", {{0}, {2}}), "layers.{0, 2}.q");
  EXPECT_EQ(joinedName("layers.*.q", {{0}, {2}, {4}, {6}, {8}}), "layers.{0, 2, …, 8}.q");
  EXPECT_EQ(joinedName("l.*.e.*", {{0, 0}, {0, 1}, {1, 0}, {1, 1}}), "l.0-1.e.0-1");
  EXPECT_EQ(joinedName("l.*.e.*", {{0, 0}, {1, 1}}), "l.0-1.e.0-1 (2 of them)");
  EXPECT_EQ(joinedName("a*b.*", {{5}}), "a*b.5"); // the first star is the name's own
}

TEST(Names, Globs) {
  EXPECT_TRUE(globMatches("layers.*.o", "layers.3.o"));
  EXPECT_TRUE(globMatches("*", ""));
  EXPECT_TRUE(globMatches("*norm*", "layers.0.mlp_norm"));
  EXPECT_TRUE(globMatches("layers.?.o", "layers.3.o"));
  EXPECT_FALSE(globMatches("layers.?.o", "layers.13.o"));
  EXPECT_FALSE(globMatches("layers.*.o", "layers.3.ox"));
  EXPECT_TRUE(globMatches("a*b*c", "axxbyybzzc"));
  EXPECT_FALSE(globMatches("a*b*c", "axxbyybzz"));
}

TEST(Names, NearestFirst) {
  const std::vector<std::string> names = {"layers.0.q", "layers.3.o", "layers.3.q", "head", "norm"};
  EXPECT_THAT(nearest("layers.3.oo", names, 2), testing::ElementsAre("layers.3.o", "layers.3.q"));
  EXPECT_THAT(nearest("hed", names, 5), testing::ElementsAre("head"));
  EXPECT_TRUE(nearest("something else", names, 5).empty());
  EXPECT_TRUE(nearest("", names, 5).empty());
}

TEST(Names, WhatATerminalWouldObeyIsShown) {
  EXPECT_EQ(printable("a\x1b[31m\nb"), "a\\x1b[31m\\x0ab");
  EXPECT_EQ(printable("é…"), "é…");
  EXPECT_EQ(printable("\xc3"), "\\xc3");          // cut short
  EXPECT_EQ(printable("\xc2\x9b"), "\\xc2\\x9b"); // a control character of two bytes
  EXPECT_EQ(printable("\xff"), "\\xff");
}

TEST(Names, TablesAlignCharactersNotBytes) {
  TextTable table("lr", {"name", "n"});
  table.row({"é", "1"});
  table.row({"abcdef", "22"});
  EXPECT_EQ(table.text(" "), " name     n\n é        1\n abcdef  22\n");
}

} // namespace
} // namespace distc::explain
