// Small tokenizers of every kind, and random texts for those and the large vocabularies, with what the Python packages
// make of them: test/data/tokenizers/tiny, written by test/runtime/text/make_tokenizers.py --pack.
#include "TokenizerTestData.h"

#include "compiler/Import/Json.h"

#include <gtest/gtest.h>

namespace distc::test {
namespace {

using import::Json;

std::string fromHex(const std::string &hex) {
  std::string bytes;
  for (size_t i = 0; i + 1 < hex.size(); i += 2)
    bytes += static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16));
  return bytes;
}

/// The large vocabularies lie beside: their packs have texts alone.
void unpack(const std::string &name, const Json &files, const TemporaryFolder &folder) {
  for (const auto &[file, hex] : files.items())
    folder.write(file, fromHex(hex.get<std::string>()));
  if (!files.empty())
    return;
  if (name.ends_with(".gguf")) {
    folder.write(name, readXz("ggml-vocab-" + name + ".xz"));
  } else {
    folder.write("tokenizer.json", readXz(name + "/tokenizer.json.xz"));
    folder.write("tokenizer_config.json", readTestFile(name + "/tokenizer_config.json"));
  }
}

Result<import::TokenizerBytes> importFrom(const std::string &name, const TemporaryFolder &folder) {
  if (!name.ends_with(".gguf"))
    return import::importHfTokenizer(folder.path(""));
  DISTC_ASSIGN(import::GgufFile file, import::readGguf(folder.path(name)));
  return import::importGgufTokenizer(file.metadata, name);
}

std::vector<std::string> packs() {
  std::vector<std::string> names;
  for (const auto &entry : std::filesystem::directory_iterator(DISTC_SOURCE_DIR "/test/data/tokenizers/tiny"))
    names.push_back(entry.path().stem().stem().string()); // NAME.json.xz
  std::sort(names.begin(), names.end());
  return names;
}

class TokenizerFamilies : public testing::TestWithParam<std::string> {};

TEST_P(TokenizerFamilies, GivesWhatThePackagesGive) {
  Json pack = Json::parse(readXz("tiny/" + GetParam() + ".json.xz"));
  TemporaryFolder folder;
  unpack(GetParam(), pack["files"], folder);
  auto tokenizer = openTokenizer(importFrom(GetParam(), folder));
  ASSERT_TRUE(tokenizer);
  ASSERT_GE(pack["expected"].size(), 40u);
  for (const Json &sample : pack["expected"]) {
    auto text = sample["text"].get<std::string>();
    auto ids = tokenizer->encode(text, false, true);
    ASSERT_TRUE(ids.ok()) << ids.status().message();
    EXPECT_EQ(*ids, sample["ids"].get<std::vector<int32_t>>()) << text;
    if (sample["decoded"].is_null()) // of SentencePiece, which maps what no piece spells to another text
      continue;
    auto decoded = sample["decoded"].get<std::string>();
    EXPECT_EQ(*tokenizer->decode(*ids), decoded) << text;
    Tokenizer::Stream stream(*tokenizer);
    std::string streamed;
    for (int32_t id : *ids)
      streamed += *stream.push(id);
    EXPECT_EQ(streamed + stream.finish(), decoded) << text;
  }
}

INSTANTIATE_TEST_SUITE_P(All, TokenizerFamilies, testing::ValuesIn(packs()), [](const auto &info) {
  std::string name = info.param;
  std::replace_if(name.begin(), name.end(), [](char c) { return !std::isalnum(static_cast<unsigned char>(c)); }, '_');
  return name;
});

} // namespace
} // namespace distc::test
