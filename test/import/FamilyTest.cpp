// Values that a family's description takes from a configuration: by layer, under a condition, by formula.
#include "compiler/Import/Family.h"
#include "compiler/Import/ModelSource.h"
#include "test/import/Support.h"

#include <filesystem>

namespace distc::import {
namespace {

using namespace test;

/// A description with these members of `config` beside the number of layers, and these statements.
Result<Family> family(const std::string &config, const std::string &layer = "[]", const std::string &refuse = "[]") {
  return parseFamily(R"({"family": "f", "hf": ["F"], "gguf": ["f"], "rope": {"hf": "half", "gguf": "half"},
    "weights": {}, "layer_weights": {}, "begin": [], "end": [], "refuse": )" +
                         refuse + R"(, "layer": )" + layer +
                         R"(, "config": {"layers": {"hf": "n", "gguf": "{arch}.n"}, )" + config + "}}",
                     "f.json");
}

Result<ModelValues> values(const std::string &description, const std::string &config) {
  DISTC_ASSIGN(Family f, family(description));
  DISTC_ASSIGN(HfConfig hf, HfConfig::parse(config, "config.json"));
  return readValues(f, Format::HuggingFace, hf, {});
}

std::vector<int64_t> byLayer(const std::string &description, const std::string &config) {
  auto read = values(description, config);
  EXPECT_TRUE(read.ok()) << read.status().message();
  std::vector<int64_t> result;
  for (int64_t layer = 0; read.ok() && layer < read->integers.at("layers"); ++layer)
    result.push_back(read->integer("w", layer));
  return result;
}

TEST(FamilyValues, ALayersListSaysWhereAValueCounts) {
  const std::string rule = R"("w": {"hf": "window", "min": 0,
    "layers": {"hf": "types", "equals": "near", "else": "all", "default": {"every": 2, "at": 0}}})";
  using Layers = std::vector<int64_t>;
  EXPECT_EQ(byLayer(rule, R"({"n": 3, "window": 8, "types": ["all", "near", "near"]})"), (Layers{0, 8, 8}));
  EXPECT_EQ(byLayer(rule, R"({"n": 3, "window": 8})"), (Layers{8, 0, 8}));
  EXPECT_EQ(byLayer(rule, R"({"n": 3, "window": 8, "types": null})"), (Layers{8, 0, 8}));
  expectFailure(values(rule, R"({"n": 3, "window": 8, "types": ["all", "near"]})").status(),
                {"config.json: key 'types' is a list of 2, expected a list of 3", "key 'n'"});
  expectFailure(values(rule, R"({"n": 1, "window": 8, "types": ["far"]})").status(),
                {R"(config.json: key 'types' holds "far", expected "near" or "all")"});
  expectFailure(values(rule, R"({"n": 1, "window": 8, "types": 7})").status(), {"key 'types' is 7, expected a list"});
}

TEST(FamilyValues, ARuleSaysWhereAValueCountsWithoutAList) {
  using Layers = std::vector<int64_t>;
  const auto rule = [](const std::string &otherwise) {
    return R"("step": {"hf": "step", "default": 3}, "on": {"type": "boolean", "default": true, "layers": {"default": {"from": 2}}},
      "w": {"default": 5, "layers": {"default": )" +
           otherwise + "}}";
  };
  EXPECT_EQ(byLayer(rule("true"), R"({"n": 2})"), (Layers{5, 5}));
  EXPECT_EQ(byLayer(rule("false"), R"({"n": 2})"), (Layers{0, 0}));
  EXPECT_EQ(byLayer(rule(R"({"every": "step", "at": -1})"), R"({"n": 7})"), (Layers{0, 0, 5, 0, 0, 5, 0}));
  EXPECT_EQ(byLayer(rule(R"({"every": "step", "at": 1})"), R"({"n": 4, "step": 2})"), (Layers{0, 5, 0, 5}));
  EXPECT_EQ(byLayer(rule(R"({"from": "step"})"), R"({"n": 5})"), (Layers{0, 0, 0, 5, 5}));
  EXPECT_EQ(byLayer(rule(R"("on")"), R"({"n": 4})"), (Layers{0, 0, 5, 5}));
  expectFailure(values(rule(R"("step")"), R"({"n": 4})").status(), {"no layers of 'step'"});
  expectFailure(family(rule(R"({"each": 2})")).status(), {"f.json: config.w.layers.default: expected true, false"});
}

TEST(FamilyValues, AValueMayNeedAnother) {
  const std::string rule = R"("on": {"type": "boolean", "hf": "on", "default": false},
    "w": {"hf": "window", "default": 4096, "if": "on"})";
  EXPECT_EQ(byLayer(rule, R"({"n": 1, "window": 8})"), std::vector<int64_t>{0});
  EXPECT_EQ(byLayer(rule, R"({"n": 1, "window": 8, "on": true})"), std::vector<int64_t>{8});
  EXPECT_EQ(byLayer(rule, R"({"n": 1, "on": true})"), std::vector<int64_t>{4096});
}

TEST(FamilyValues, NumbersMayBeCalculated) {
  const std::string rule = R"("a": {"type": "number", "hf": "a", "default": "layers"},
    "root": {"type": "number", "default": "a ^ 0.5"}, "inverse": {"type": "number", "default": "1 / a"},
    "one": {"type": "number", "default": 1, "gguf_default": 0})";
  auto read = values(rule, R"({"n": 16})");
  ASSERT_TRUE(read.ok()) << read.status().message();
  EXPECT_EQ(read->numbers.at("a"), 16);
  EXPECT_EQ(read->numbers.at("root"), 4);
  EXPECT_EQ(read->numbers.at("inverse"), 0.0625);
  EXPECT_EQ(read->numbers.at("one"), 1);
  expectFailure(values(rule, R"({"n": 16, "a": 0})").status(),
                {"key 'a': 1 / a is inf, expected a number of at least 0"});

  auto description = family(rule);
  ASSERT_TRUE(description.ok());
  GgufMetadata metadata{{"general.architecture", std::string("f")}, {"f.n", int64_t(2)}};
  auto gguf = GgufConfig::open(metadata, "m.gguf");
  ASSERT_TRUE(gguf.ok());
  auto fromGguf = readValues(*description, Format::Gguf, *gguf, {});
  ASSERT_TRUE(fromGguf.ok()) << fromGguf.status().message();
  EXPECT_EQ(fromGguf->numbers.at("one"), 0);
}

TEST(FamilyValues, ARefusalIsOfOneFormat) {
  auto description =
      family(R"("w": {"default": 1})", "[]",
             R"([{"hf": "odd", "because": "reason one"}, {"gguf": "{arch}.n", "equals": 2, "because": "reason two"}])");
  ASSERT_TRUE(description.ok()) << description.status().message();
  auto plain = HfConfig::parse(R"({"n": 2})", "config.json"),
       odd = HfConfig::parse(R"({"n": 1, "odd": 5})", "config.json");
  EXPECT_TRUE(readValues(*description, Format::HuggingFace, *plain, {}).ok());
  expectFailure(readValues(*description, Format::HuggingFace, *odd, {}).status(), {"key 'odd' is 5: reason one"});
  GgufMetadata metadata{{"general.architecture", std::string("f")}, {"f.n", int64_t(2)}};
  auto gguf = GgufConfig::open(metadata, "m.gguf");
  expectFailure(readValues(*description, Format::Gguf, *gguf, {}).status(), {"key 'f.n' is 2: reason two"});
}

TEST(Statements, HaveOptions) {
  auto description =
      family(R"("w": {"default": 1})", R"x(["a = attention(q, rope(k, unless=near), window=w, if = on)"])x");
  ASSERT_TRUE(description.ok()) << description.status().message();
  const Expression &call = description->layer.at(0).expression;
  EXPECT_EQ(call.arguments.size(), 2u);
  EXPECT_EQ(call.options, (std::map<std::string, std::string>{{"window", "w"}, {"if", "on"}}));
  EXPECT_EQ(call.arguments[1].options, (std::map<std::string, std::string>{{"unless", "near"}}));
  expectFailure(family(R"("w": {"default": 1})", R"x(["a = f(b, c=)"])x").status(), {"cannot read 'a = f(b, c=)'"});
  expectFailure(family(R"("w": {"default": 1})", R"x(["a = f(g(b)=c)"])x").status(), {"cannot read"});
}

TEST(Families, EveryDescriptionIsRead) {
  std::set<std::string> names;
  for (const auto &entry : std::filesystem::directory_iterator(DISTC_SOURCE_DIR "/models/families"))
    names.insert(entry.path().stem());
  for (const Family &family : families())
    EXPECT_EQ(names.erase(family.name), 1u) << family.name;
  EXPECT_TRUE(names.empty()) << "cannot be read: " << *names.begin();
}

TEST(Shapes, AreOfAFamilyThatFindsItsValues) {
  for (const std::string &name : shapeNames()) {
    auto source = openModel(name, /*weights=*/false);
    ASSERT_TRUE(source.ok()) << source.status().message();
    EXPECT_GT((*source)->values.integers.at("layers"), 1) << name;
  }
  EXPECT_GE(shapeNames().size(), 20u);
}

TEST(Families, LikeAnotherWithChanges) {
  auto family = parseFamily(R"json({"family": "mine", "like": "qwen2", "hf": ["Mine"],
                                "config": {"tied": null, "eps": {"default": 0.5}},
                                "layer": ["x = add(x, x)"]})json",
                            "mine.json");
  ASSERT_TRUE(family.ok()) << family.status().message();
  EXPECT_EQ(family->name, "mine");
  EXPECT_EQ(family->hf, std::vector<std::string>{"Mine"});
  EXPECT_EQ(family->gguf, std::vector<std::string>{"qwen2"});
  EXPECT_EQ(family->config.count("tied"), 0u);
  EXPECT_EQ(family->config.at("eps").fallback, Json(0.5));
  EXPECT_EQ(family->config.at("eps").hf, std::vector<std::string>{"rms_norm_eps"});
  EXPECT_EQ(family->ggufRope, "half") << "Qwen2's change of Llama";
  EXPECT_EQ(family->layer.size(), 1u);
  EXPECT_EQ(family->end.size(), 2u);
}

TEST(Families, WrongDescriptionsAreErrors) {
  expectFailure(parseFamily(R"({"like": "nobody"})", "x.json").status(),
                {"x.json: like: expected the name of another family, got \"nobody\""});
  expectFailure(parseFamily(R"({"like": 3})", "x.json").status(), {"x.json: like", "got 3"});
  auto weight = [](const std::string &rule) {
    return parseFamily(R"({"like": "llama", "layer_weights": {"k": )" + rule + "}}", "x.json").status();
  };
  expectFailure(weight(R"({"of": ["heads", "kv_heads"], "part": 0})"), {"x.json: k.part"});
  expectFailure(weight(R"({"of": ["heads", "kv_heads"], "part": 2})"), {"x.json: k.part"});
  expectFailure(weight(R"({"of": ["heads", "kv_heads"], "part": -1})"), {"x.json: k.part"});
  expectFailure(weight(R"({"shape": ["hidden"], "hf_transposed": true})"), {"x.json: k.hf_transposed"});
  EXPECT_TRUE(weight(R"({"of": ["heads", "kv_heads"], "part": 1, "hf_transposed": true})").ok());
}

} // namespace
} // namespace distc::import
