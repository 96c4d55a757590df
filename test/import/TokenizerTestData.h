// Vocabularies of test/data/tokenizers, and the texts with the ids that they must become.
#pragma once

#include "compiler/Import/TokenizerImport.h"
#include "runtime/text/Tokenizer.h"

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

namespace distc::test {

/// A folder of its own, removed at the end.
class TemporaryFolder {
public:
  TemporaryFolder();
  ~TemporaryFolder();
  std::string path(const std::string &name) const { return (path_ / name).string(); }
  void write(const std::string &name, std::string_view bytes) const;

private:
  std::filesystem::path path_;
};

std::string readTestFile(const std::string &name); // under test/data/tokenizers
std::string readXz(const std::string &name);

struct Sample {
  std::string text;
  std::vector<int32_t> ids;
};
/// ggml-vocab.inp with the ids of ggml-vocab-`vocabulary`.out.
std::vector<Sample> samples(const std::string &vocabulary);

/// Opens what an importer has made; fails the test and returns null if there is nothing.
std::unique_ptr<Tokenizer> openTokenizer(Result<import::TokenizerBytes> bytes);

} // namespace distc::test
