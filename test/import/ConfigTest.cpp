#include "compiler/Import/ModelConfig.h"
#include "test/import/Support.h"

namespace distc::import {
namespace {

using namespace test;

class Hf : public ::testing::Test {
protected:
  HfConfig open(const std::string &text) {
    folder.write("config.json", text);
    auto config = HfConfig::open(folder.path());
    EXPECT_TRUE(config.ok()) << config.status().message();
    return config.take();
  }
  TemporaryFolder folder;
};

TEST_F(Hf, GivesTypedValues) {
  HfConfig config = open(R"({"i":-3,"d":1e-5,"b":true,"s":"x","n":null,"o":{"p":{"q":7}},"l":[1,2]})");
  EXPECT_EQ(*config.integer("i"), -3);
  EXPECT_EQ(*config.number("d"), 1e-5);
  EXPECT_EQ(*config.number("i"), -3.0);
  EXPECT_EQ(*config.boolean("b"), true);
  EXPECT_EQ(*config.string("s"), "x");
  EXPECT_EQ(*config.integer("o.p.q"), 7);
  EXPECT_EQ(*config.value("l"), Json({1, 2}));
  EXPECT_EQ(*config.value("o.p"), Json({{"q", 7}}));
}

TEST_F(Hf, TakesNullAsAbsent) {
  HfConfig config = open(R"({"n":null,"o":{"n":null}})");
  for (const char *key : {"n", "o.n", "n.x", "none", "o.none", "none.x", "", "o."}) {
    SCOPED_TRACE(key);
    auto value = config.value(key);
    ASSERT_TRUE(value.ok());
    EXPECT_FALSE(value->has_value());
    EXPECT_FALSE(config.integer(key)->has_value());
    EXPECT_FALSE(config.string(key)->has_value());
  }
}

TEST_F(Hf, NamesFileKeyKindAndValue) {
  HfConfig config = open(R"({"f":4096.0,"e":1e3,"s":"4096","b":false,"u":9223372036854775808,"o":{},"i":1})");
  std::string path = folder.path() + "/config.json";
  EXPECT_EQ(config.where("f"), path + ": key 'f'");
  expectFailure(config.integer("f").status(), {path + ": key 'f' is 4096.0, expected an integer"});
  expectFailure(config.integer("e").status(), {"key 'e' is 1000.0, expected an integer"});
  expectFailure(config.integer("s").status(), {R"(key 's' is "4096", expected an integer)"});
  expectFailure(config.integer("b").status(), {"key 'b' is false, expected an integer"});
  expectFailure(config.integer("u").status(), {"key 'u' is 9223372036854775808, expected an integer"});
  expectFailure(config.number("s").status(), {"expected a finite number"});
  expectFailure(config.boolean("i").status(), {"key 'i' is 1, expected true or false"});
  expectFailure(config.string("o").status(), {"key 'o' is an object, expected a string"});
  expectFailure(config.integer("s.x.y").status(), {R"(key 's' is "4096", expected an object)"});
}

TEST_F(Hf, RefusesBadFiles) {
  expectFailure(HfConfig::open(folder.path()).status(), {folder.path() + ": holds no config.json"});
  std::string path = folder.write("config.json", "[]");
  expectFailure(HfConfig::open(path).status(), {path + ": is an array, expected an object"});
  folder.write("config.json", R"({"a":1,"a":2})");
  expectFailure(HfConfig::open(path).status(), {path + ": key 'a' occurs twice"});
}

TEST(GgufConfigTest, ReadsAFileOfLlamaCpp) {
  auto file = readGguf(dataPath("stories260K/stories260K-f32.gguf"));
  ASSERT_TRUE(file.ok());
  auto config = GgufConfig::open(file->metadata, "s.gguf");
  ASSERT_TRUE(config.ok()) << config.status().message();
  EXPECT_EQ(config->architecture(), "llama");
  EXPECT_EQ(*config->integer("{arch}.attention.head_count_kv"), 4);
  EXPECT_EQ(*config->number("{arch}.attention.layer_norm_rms_epsilon"), double(1e-5f));
  EXPECT_EQ(*config->string("tokenizer.ggml.model"), "llama");
  EXPECT_FALSE(config->integer("{arch}.vocab_size")->has_value());
  EXPECT_EQ((*config->value("tokenizer.ggml.tokens"))->size(), 512u);
  EXPECT_EQ(config->where("{arch}.block_count"), "s.gguf: key 'llama.block_count'");
  expectFailure(config->integer("{arch}.attention.layer_norm_rms_epsilon").status(),
                {"s.gguf: key 'llama.attention.layer_norm_rms_epsilon' is 9.99", "expected an integer"});
  expectFailure(config->string("{arch}.block_count").status(), {"key 'llama.block_count' is 5, expected a string"});
}

TEST(GgufConfigTest, ChecksArchitectureAndNumbers) {
  GgufMetadata metadata;
  expectFailure(GgufConfig::open(metadata, "s.gguf").status(), {"s.gguf: has no key 'general.architecture'"});
  metadata["general.architecture"] = int64_t(1);
  expectFailure(GgufConfig::open(metadata, "s.gguf").status(), {"'general.architecture' is not a string"});
  metadata["general.architecture"] = std::string("x");
  metadata["x.nan"] = std::nan("");
  metadata["x.flags"] = GgufArray(std::vector<int64_t>{0, 1});
  auto config = GgufConfig::open(metadata, "s.gguf");
  ASSERT_TRUE(config.ok());
  expectFailure(config->number("{arch}.nan").status(), {"key 'x.nan'", "expected a finite number"});
  EXPECT_EQ(*config->value("{arch}.flags"), Json({0, 1}));
  expectFailure(config->boolean("{arch}.flags").status(), {"is an array, expected true or false"});
}

} // namespace
} // namespace distc::import
