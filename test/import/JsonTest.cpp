#include "compiler/Import/Json.h"
#include "test/import/Support.h"

namespace distc::import {
namespace {

using namespace test;

TEST(Json, ParsesEveryKind) {
  auto json = parseJson(R"({"a":[1,-2,0.5,true,null,"x"],"b":{"c":{}},"d":18446744073709551615})", "x.json");
  ASSERT_TRUE(json.ok()) << json.status().message();
  EXPECT_EQ((*json)["a"], Json::parse(R"([1,-2,0.5,true,null,"x"])"));
  EXPECT_EQ((*json)["b"]["c"], Json::object());
  EXPECT_EQ((*json)["d"].get<uint64_t>(), ~uint64_t(0));
  EXPECT_EQ(*parseJson("3", "x.json"), 3);
}

TEST(Json, BoundsDepth) {
  auto nested = [](size_t depth) { return std::string(depth, '[') + std::string(depth, ']'); };
  EXPECT_TRUE(parseJson(nested(64), "x").ok());
  expectFailure(parseJson(nested(65), "x").status(), {"x: nested deeper than 64 levels"});
  expectFailure(parseJson(std::string(1 << 20, '['), "x").status(), {"nested deeper"});
  std::string objects;
  for (int i = 0; i < 100; ++i)
    objects += "{\"k\":";
  expectFailure(parseJson(objects, "x").status(), {"nested deeper"});
}

TEST(Json, NamesThePathOfARepeatedKey) {
  expectFailure(parseJson(R"({"b":0,"a":{"c":{"d":1,"e":2,"d":3}}})", "x.json").status(),
                {"x.json: key 'a.c.d' occurs twice"});
  EXPECT_TRUE(parseJson(R"([{"a":1},{"a":2}])", "x").ok());
}

TEST(Json, PlacesErrors) {
  expectFailure(parseJson("{\n \"a\": 1,\n \"b\" 2}", "x.json").status(),
                {"x.json: not valid JSON: line 3, column 6", "expected ':'"});
  expectFailure(parseJson("", "x").status(), {"x: not valid JSON", "unexpected end of input"});
  expectFailure(parseJson("[1e999]", "x").status(), {"x: not valid JSON", "1e999"});
  expectFailure(parseJson("[NaN]", "x").status(), {"x: not valid JSON"});
  expectFailure(parseJson("[1] // no", "x").status(), {"x: not valid JSON"});
  EXPECT_LT(parseJson(std::string("[\"").append(1 << 20, 'a'), "x").status().message().size(), 400u);
}

TEST(Json, BoundsTheNumberOfValues) {
  std::string text = "[0";
  for (int i = 0; i < 8'000'000; ++i)
    text += ",0";
  expectFailure(parseJson(text + "]", "x").status(), {"x: more than 8000000 values"});
}

TEST(Json, ShowsValues) {
  EXPECT_STREQ(kindOf(Json(nullptr)), "null");
  EXPECT_STREQ(kindOf(Json(1.5)), "a number");
  EXPECT_EQ(show(Json("a\nb")), R"("a\x0ab")");
  EXPECT_EQ(show(Json("\xff")), R"("\xff")");
  EXPECT_EQ(show(Json::array()), "an array");
  EXPECT_EQ(show(Json(true)), "true");
  EXPECT_EQ(inQuotes("größe"), "'größe'");
  EXPECT_EQ(inQuotes("\xc3"), R"('\xc3')");
  EXPECT_EQ(inQuotes("\xc0\x80"), R"('\xc0\x80')");
  EXPECT_EQ(inQuotes(std::string(200, 'x')), std::string("'").append(127, 'x').append("…'"));
}

} // namespace
} // namespace distc::import
