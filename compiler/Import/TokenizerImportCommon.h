// What the importers of every tokenizer format share.
#pragma once

#include "compiler/Import/TokenizerImport.h"
#include "runtime/schema/tokenizer_generated.h"

#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace distc::import {

/// A tokenizer while it is put together.
struct TokenizerDraft {
  tok::TokenizerT table;
  std::unordered_map<std::string, uint32_t> idOfPiece; // of two pieces spelled alike, the first

  void indexPieces();
  /// -1: no piece is spelled so.
  int32_t find(const std::string &piece) const;
  /// Adds the merge of the pieces `left` and `right`. Errors name the merge, not the file.
  Status addMerge(const std::string &left, const std::string &right);
};

/// What to do with the second of two equal merges: Hugging Face's table keeps the last, llama.cpp's the first.
enum class DuplicateMerges { KeepFirst, KeepLast };
void dropDuplicateMerges(std::vector<tok::Merge> &merges, DuplicateMerges which);

/// Adds eos, and the control pieces by which well-known models end their turn, to the pieces that end generation.
void addWellKnownEnds(TokenizerDraft &draft);

/// The file's bytes, once the runtime has been seen to accept them; `name` leads every error.
Result<TokenizerBytes> finishTokenizer(TokenizerDraft &draft, const std::string &name);

/// A pattern of Oniguruma in its Ruby syntax, as Hugging Face tokenizers reads it, in the syntax of PCRE2. What the two
/// read differently and cannot be said in both is an error.
Result<std::string> toPcre2(std::string_view onigurumaPattern);

/// The pre-tokenizer of GPT-2, which ByteLevel stands for.
extern const char *const kGpt2Pattern;

/// The split that a GGUF file names in tokenizer.ggml.pre.
struct NamedSplit {
  std::vector<std::string> patterns; // PCRE2
  bool ignoreMerges = false;
  bool addBos = false;
};
/// An unknown name is an error that lists the known ones.
Result<NamedSplit> namedSplit(const std::string &pre);

} // namespace distc::import
