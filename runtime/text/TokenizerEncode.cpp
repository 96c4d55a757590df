#include "runtime/text/Normalize.h"
#include "runtime/text/TokenizerState.h"
#include "runtime/text/Utf8.h"

namespace distc {

namespace {

using text::Symbol;

constexpr std::string_view kSpace = "\u2581";

std::string dropExtraSpaces(std::string_view section) {
  std::string kept;
  for (char c : section)
    if (c != ' ' || (!kept.empty() && kept.back() != ' '))
      kept += c;
  // At the end SentencePiece looks for the escaped form, so takes a U+2581 of the text for a space.
  std::string_view rest = kept;
  for (bool isSpace = true; isSpace;) {
    isSpace = rest.ends_with(' ') || rest.ends_with(kSpace);
    rest.remove_suffix(!isSpace ? 0 : rest.ends_with(' ') ? 1 : kSpace.size());
  }
  kept.resize(rest.size());
  return kept;
}

} // namespace

Result<std::string> Tokenizer::State::normalize(std::string_view section, bool isStart) const {
  std::string plain(section);
  if (file->nfc()) {
    DISTC_ASSIGN(plain, text::normalizeNfc(section));
  }
  if (isSpm && file->remove_extra_spaces())
    plain = dropExtraSpaces(plain);
  if (plain.empty())
    return plain;
  bool isPrefixed = file->add_space_prefix() && (isStart || !file->space_prefix_first()) &&
                    !(file->space_prefix_once() && (plain[0] == ' ' || (isSpm && plain.starts_with(kSpace))));
  std::string normal(isPrefixed ? " " : "");
  if (!isSpm)
    return normal + plain;
  normal += plain;
  std::string escaped;
  escaped.reserve(normal.size() + normal.size() / 2);
  for (char c : normal)
    c == ' ' ? escaped.append(kSpace) : escaped.append(1, c);
  return escaped;
}

Status Tokenizer::State::encodeSection(std::string_view section, bool isStart, std::vector<int32_t> &ids) const {
  DISTC_ASSIGN(std::string normal, normalize(section, isStart));
  DISTC_ASSIGN(std::vector<std::string_view> words, splitter.split(normal));
  for (std::string_view word : words)
    DISTC_TRY(encodeWord(word, ids));
  return {};
}

Status Tokenizer::State::encodeWord(std::string_view word, std::vector<int32_t> &ids) const {
  auto lookUp = [&](std::string_view spelling) {
    if (spelling.size() > longestSpelling)
      return -1;
    auto found = idOfSpelling.find(spelling);
    return found == idOfSpelling.end() ? -1 : found->second;
  };
  if (file->ignore_merges())
    if (int32_t id = lookUp(word); id >= 0) {
      ids.push_back(id);
      return {};
    }

  std::vector<Symbol> symbols;
  symbols.reserve(word.size());
  for (uint32_t i = 0; i < word.size();) {
    uint32_t length = isSpm ? text::stepUtf8(word.substr(i)).length : 1;
    int32_t id = isSpm ? lookUp(word.substr(i, length)) : byteIds[static_cast<uint8_t>(word[i])];
    symbols.push_back({i, length, id});
    i += length;
  }
  if (usesScores) {
    // By spelling, not by id: as in SentencePiece, characters that are no pieces may still merge into one.
    text::mergeSymbols(symbols, [&](const Symbol &left, const Symbol &right) -> std::optional<text::MergeResult> {
      int32_t id = lookUp(word.substr(left.begin, size_t(left.length) + right.length));
      if (id < 0)
        return std::nullopt;
      return text::MergeResult{scoreRanks[id], id};
    });
  } else {
    text::mergeSymbols(symbols, [&](const Symbol &left, const Symbol &right) -> std::optional<text::MergeResult> {
      if (left.id < 0 || right.id < 0)
        return std::nullopt;
      auto found = merges.find(uint64_t(left.id) << 32 | static_cast<uint32_t>(right.id));
      return found == merges.end() ? std::nullopt : std::optional(found->second);
    });
  }

  bool wasUnknown = false;
  for (const Symbol &symbol : symbols) {
    std::string_view spelling = word.substr(symbol.begin, symbol.length);
    bool isUnknown = false;
    if (symbol.id >= 0) {
      ids.push_back(symbol.id);
    } else {
      bool hasBytes = isSpm;
      for (char c : spelling)
        hasBytes = hasBytes && byteIds[static_cast<uint8_t>(c)] >= 0;
      isUnknown = !hasBytes;
      if (hasBytes)
        for (char c : spelling)
          ids.push_back(byteIds[static_cast<uint8_t>(c)]);
      else if (file->unknown() < 0)
        return invalidArgument("the vocabulary has no piece for the bytes of '" + std::string(spelling) +
                               "', and no unknown piece");
      else if (!wasUnknown || !file->fuse_unknown())
        ids.push_back(file->unknown());
    }
    wasUnknown = isUnknown;
  }
  return {};
}

} // namespace distc
