// What a tokenizer file becomes once it is verified: everything that encoding and decoding look up.
#pragma once

#include "distc/Status.h"
#include "runtime/schema/tokenizer_generated.h"
#include "runtime/text/Merger.h"
#include "runtime/text/PieceTrie.h"
#include "runtime/text/RegexSplitter.h"
#include "runtime/text/Tokenizer.h"

#include <array>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

namespace distc {

struct Tokenizer::State {
  /// Verifies `bytes` and builds the tables. Errors do not name the file.
  static Result<std::unique_ptr<State>> load(std::string bytes);

  std::string bytes; // the file, which `file` and every string_view below point into
  const tok::Tokenizer *file = nullptr;
  bool isSpm = false;
  bool usesScores = false;

  std::vector<std::string_view> pieces;
  std::vector<tok::PieceKind> kinds;
  std::string textBlob;              // the bytes that each piece stands for in a text, one after the other
  std::vector<uint32_t> textOffsets; // by id, and one more for the end

  text::RegexSplitter splitter;
  /// Pieces that are looked for in a text.
  struct Finder {
    text::PieceTrie userDefined; // in every text
    text::PieceTrie special;     // the same, and control pieces
    const text::PieceTrie &of(bool parseSpecial) const { return parseSpecial ? special : userDefined; }
  };
  Finder inText;
  Finder inNormal; // in normalized text
  std::unordered_map<int32_t, std::string_view> normalSpellings;
  std::unordered_set<int32_t> stripLeft;
  std::unordered_set<int32_t> stripRight;
  std::unordered_set<int32_t> endOfGeneration;

  std::array<int32_t, 256> byteIds{};                         // -1: none
  std::unordered_map<std::string_view, int32_t> idOfSpelling; // ordinary pieces; Bpe: by the bytes they stand for
  size_t longestSpelling = 0;
  std::vector<uint32_t> scoreRanks;                       // by id
  std::unordered_map<uint64_t, text::MergeResult> merges; // left << 32 | right

  std::string_view textOf(int32_t id) const {
    return std::string_view(textBlob).substr(textOffsets[id], textOffsets[id + 1] - textOffsets[id]);
  }
  bool isHidden(int32_t id) const {
    return kinds[id] == tok::PieceKind::Control || kinds[id] == tok::PieceKind::Unknown;
  }

  /// Without bos and eos.
  Status encodeText(std::string_view text, bool parseSpecial, std::vector<int32_t> &ids) const;

private:
  Status loadPieces();
  Status loadNormal();
  Status loadText();
  Status loadMerges();
  Status loadIds();
  Status loadSpecial();
  Status addSpecial(Finder &finder, std::string_view spelling, int32_t id);
  template <typename Between>
  Status cutAtPieces(std::string_view text, const text::PieceTrie &pieces, std::vector<int32_t> &ids,
                     Between between) const;
  bool isMarkedBefore() const { return isSpm && !file->space_prefix_once(); }
  std::string mark(std::string_view section, bool isPrefixed) const;
  Result<std::string> normalize(std::string_view section, bool isStart) const;
  std::string prepare(std::string_view section, bool isStart) const;
  Status encodeWord(std::string_view word, std::vector<int32_t> &ids) const;
};

} // namespace distc
