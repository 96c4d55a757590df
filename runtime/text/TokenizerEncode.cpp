#include "runtime/text/Normalize.h"
#include "runtime/text/TokenizerState.h"
#include "runtime/text/Utf8.h"

namespace distc {

namespace {

using text::Symbol;

constexpr std::string_view kSpace = "\u2581";

size_t skipSpaceRight(std::string_view text, size_t from) {
  while (from < text.size()) {
    text::Utf8Step step = text::stepUtf8(text.substr(from));
    if (!text::isWhiteSpace(step.codePoint))
      break;
    from += step.length;
  }
  return from;
}

size_t skipSpaceLeft(std::string_view text, size_t begin, size_t end) {
  while (end > begin) {
    size_t last = end - 1;
    while (last > begin && (text[last] & 0xC0) == 0x80)
      --last;
    if (!text::isWhiteSpace(text::stepUtf8(text.substr(last)).codePoint))
      break;
    end = last;
  }
  return end;
}

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

/// Calls `between(section, isStart)` for what lies between the pieces.
template <typename Between>
Status Tokenizer::State::cutAtPieces(std::string_view text, const text::PieceTrie &pieces, std::vector<int32_t> &ids,
                                     Between between) const {
  // The next piece is looked for right behind one, also where that has taken whitespace: as Hugging Face does.
  size_t from = 0;
  for (size_t search = 0;;) {
    text::PieceTrie::Match match = pieces.find(text, search);
    size_t begin = stripLeft.contains(match.id) ? skipSpaceLeft(text, from, match.begin) : match.begin;
    if (from < begin)
      DISTC_TRY(between(text.substr(from, begin - from), from == 0));
    if (match.length == 0)
      break;
    ids.push_back(match.id);
    search = match.begin + match.length;
    from = stripRight.contains(match.id) ? skipSpaceRight(text, search) : search;
  }
  return {};
}

Status Tokenizer::State::encodeText(std::string_view text, bool parseSpecial, std::vector<int32_t> &ids) const {
  return cutAtPieces(text, inText.of(parseSpecial), ids, [&](std::string_view section, bool isStart) -> Status {
    DISTC_ASSIGN(std::string normal, normalize(section, isStart));
    return cutAtPieces(normal, inNormal.of(parseSpecial), ids, [&](std::string_view part, bool isFirst) -> Status {
      std::string prepared = prepare(part, isStart && isFirst);
      DISTC_ASSIGN(std::vector<std::string_view> words, splitter.split(prepared));
      for (std::string_view word : words)
        DISTC_TRY(encodeWord(word, ids));
      return {};
    });
  });
}

/// Spaces as U+2581, one more before them if `isPrefixed`.
std::string Tokenizer::State::mark(std::string_view section, bool isPrefixed) const {
  std::string marked(isPrefixed ? kSpace : "");
  marked.reserve(section.size() + section.size() / 2);
  for (char c : section)
    c == ' ' ? marked.append(kSpace) : marked.append(1, c);
  return marked;
}

Result<std::string> Tokenizer::State::normalize(std::string_view section, bool isStart) const {
  std::string plain(section);
  if (file->nfc()) {
    DISTC_ASSIGN(plain, text::normalizeNfc(section));
  }
  if (isSpm && file->remove_extra_spaces())
    plain = dropExtraSpaces(plain);
  if (plain.empty() || !isMarkedBefore())
    return plain;
  return mark(plain, file->add_space_prefix() && (isStart || !file->space_prefix_first()));
}

/// What is left to do where pieces of normalized text have been found.
std::string Tokenizer::State::prepare(std::string_view section, bool isStart) const {
  if (section.empty() || isMarkedBefore())
    return std::string(section);
  bool isPrefixed = file->add_space_prefix() && (isStart || !file->space_prefix_first()) &&
                    !(file->space_prefix_once() && (section[0] == ' ' || (isSpm && section.starts_with(kSpace))));
  if (isSpm)
    return mark(section, isPrefixed);
  return (isPrefixed ? " " : "") + std::string(section);
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
