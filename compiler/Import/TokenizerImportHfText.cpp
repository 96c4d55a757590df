// How text is prepared before merging: normalizer and pre_tokenizer of tokenizer.json, and the decoder that undoes it.
#include "compiler/Import/TokenizerImportHf.h"

#include <algorithm>

namespace distc::import {

namespace {

const std::string kSpace = "\u2581";

/// {"String": …} or {"Regex": …} as a PCRE2 pattern.
Result<std::string> patternOf(const Json &component) {
  const Json *pattern = memberOf(component, "pattern");
  if (const Json *text = pattern ? memberOf(*pattern, "String") : nullptr; text && text->is_string()) {
    std::string quoted;
    for (char c : text->get_ref<const std::string &>()) {
      bool isPlain = static_cast<unsigned char>(c) >= 0x80 || std::isalnum(static_cast<unsigned char>(c));
      quoted += isPlain ? std::string(1, c) : std::string("\\") + c;
    }
    return quoted;
  }
  if (const Json *regex = pattern ? memberOf(*pattern, "Regex") : nullptr; regex && regex->is_string())
    return toPcre2(regex->get_ref<const std::string &>());
  return dataLoss("Split without a pattern");
}

/// A pattern of a set of characters: one by one, or whole runs.
std::string setPattern(const std::string &set, bool isRun) { return set + (isRun ? "+" : ""); }

struct TextReader {
  TokenizerDraft &draft;
  bool isByteLevel = false;
  bool hasSpaceMark = false; // spaces become U+2581

  tok::TokenizerT &table() { return draft.table; }

  Status readNormalizer(const Json &component) {
    DISTC_ASSIGN(std::string type, typeOf(component));
    if (type == "NFC") {
      table().nfc = true;
      return {};
    }
    if (type == "Prepend") {
      DISTC_ASSIGN(std::string prefix, stringOf(component, "prepend", ""));
      if (prefix == kSpace) {
        table().add_space_prefix = true;
        return {};
      }
    }
    if (type == "Replace") {
      const Json *pattern = memberOf(component, "pattern");
      DISTC_ASSIGN(std::string from, pattern ? stringOf(*pattern, "String", "") : Result<std::string>(std::string()));
      DISTC_ASSIGN(std::string to, stringOf(component, "content", ""));
      if (from == " " && to == kSpace) {
        hasSpaceMark = true;
        return {};
      }
    }
    return invalidArgument("normalizer " + component.dump().substr(0, 200) +
                           " is not supported; supported are NFC, "
                           "Prepend of U+2581, and Replace of a space by U+2581");
  }

  Status readMetaspace(const Json &component) {
    DISTC_ASSIGN(std::string replacement, stringOf(component, "replacement", kSpace));
    DISTC_ASSIGN(bool addsPrefix, boolOf(component, "add_prefix_space", true));
    DISTC_ASSIGN(std::string scheme, stringOf(component, "prepend_scheme", addsPrefix ? "always" : "never"));
    DISTC_ASSIGN(bool splits, boolOf(component, "split", true));
    if (replacement != kSpace || (scheme != "always" && scheme != "first" && scheme != "never"))
      return invalidArgument("pre_tokenizer: Metaspace with '" + replacement + "' and the scheme '" + scheme +
                             "' is not supported");
    hasSpaceMark = true;
    table().add_space_prefix = scheme != "never";
    table().space_prefix_first = scheme == "first";
    table().space_prefix_once = true;
    if (splits)
      table().pre_tokenizer.push_back(kSpace + "[^" + kSpace + "]*");
    return {};
  }

  Status readSplit(const Json &component) {
    DISTC_ASSIGN(std::string behavior, stringOf(component, "behavior", ""));
    DISTC_ASSIGN(bool invert, boolOf(component, "invert", false));
    DISTC_ASSIGN(std::string pattern, patternOf(component));
    // There is no space left to split at.
    if (hasSpaceMark && pattern == "\\ " && behavior == "MergedWithPrevious")
      return {};
    // With blanks matched by the last alternatives of the known patterns there is nothing between matches to remove.
    bool coversAll = pattern.find(R"(\p{White_Space}+(?!\P{White_Space}))") != std::string::npos &&
                     pattern.find(R"([^\p{White_Space}\p{L}\p{N}]+)") != std::string::npos;
    if (!(behavior == "Isolated" && !invert) && !(behavior == "Removed" && invert && coversAll))
      return invalidArgument("pre_tokenizer: Split with behavior '" + behavior + "'" + (invert ? ", inverted," : "") +
                             " is not supported; supported is Isolated");
    table().pre_tokenizer.push_back(pattern);
    return {};
  }

  Status readPreTokenizer(const Json &component) {
    DISTC_ASSIGN(std::string type, typeOf(component));
    if (isByteLevel)
      return invalidArgument("pre_tokenizer '" + type + "' after ByteLevel is not supported");
    if (type == "ByteLevel") {
      DISTC_ASSIGN(bool usesRegex, boolOf(component, "use_regex", true));
      DISTC_ASSIGN(bool addsPrefix, boolOf(component, "add_prefix_space", true));
      if (addsPrefix && !table().pre_tokenizer.empty())
        return invalidArgument("pre_tokenizer: ByteLevel with add_prefix_space after another split is not supported");
      isByteLevel = true;
      table().add_space_prefix = addsPrefix;
      table().space_prefix_once = true;
      if (usesRegex) {
        DISTC_ASSIGN(std::string pattern, toPcre2(kGpt2Pattern));
        table().pre_tokenizer.push_back(pattern);
      }
      return {};
    }
    if (type == "Split")
      return readSplit(component);
    if (type == "Metaspace")
      return readMetaspace(component);
    if (type == "Digits") {
      DISTC_ASSIGN(bool individual, boolOf(component, "individual_digits", false));
      table().pre_tokenizer.push_back(setPattern(R"(\p{N})", !individual));
      return {};
    }
    if (type == "Punctuation") {
      DISTC_ASSIGN(std::string behavior, stringOf(component, "behavior", "Isolated"));
      if (behavior == "Isolated" || behavior == "Contiguous") {
        table().pre_tokenizer.push_back(
            setPattern(R"([\p{P}\x21-\x2F\x3A-\x40\x5B-\x60\x7B-\x7E])", behavior == "Contiguous"));
        return {};
      }
    }
    return invalidArgument("pre_tokenizer " + component.dump().substr(0, 200) +
                           " is not supported; supported are "
                           "ByteLevel, Split, Digits, Punctuation and Metaspace");
  }

  /// Decoding is not read, it is known; a file that wants another one is refused.
  Status checkDecoder(const std::vector<const Json *> &components) {
    bool restoresSpaces = false, stripsSpace = false, mapsBytes = false;
    for (const Json *component : components) {
      DISTC_ASSIGN(std::string type, typeOf(*component));
      if (type == "ByteLevel") {
        mapsBytes = true;
      } else if (type == "Metaspace") {
        restoresSpaces = true;
        stripsSpace = table().add_space_prefix;
      } else if (type == "Replace") {
        restoresSpaces = true;
      } else if (type == "Strip") {
        stripsSpace = memberOf(*component, "start") && *memberOf(*component, "start") == 1;
      } else if (type != "ByteFallback" && type != "Fuse") {
        return invalidArgument("decoder '" + type + "' is not supported");
      }
    }
    bool isExpected = isByteLevel ? mapsBytes && !restoresSpaces && !stripsSpace
                                  : !mapsBytes && restoresSpaces && stripsSpace == table().add_space_prefix;
    if (!isExpected)
      return invalidArgument("the decoder does not undo what normalizer and pre_tokenizer do");
    return {};
  }
};

} // namespace

Status readHfText(const Json &file, TokenizerDraft &draft) {
  TextReader reader{draft};
  DISTC_ASSIGN(std::vector<const Json *> normalizers, componentsOf(file, "normalizer", "normalizers"));
  for (const Json *component : normalizers)
    DISTC_TRY(reader.readNormalizer(*component));
  DISTC_ASSIGN(std::vector<const Json *> splits, componentsOf(file, "pre_tokenizer", "pretokenizers"));
  for (const Json *component : splits)
    DISTC_TRY(reader.readPreTokenizer(*component));
  if (reader.isByteLevel == reader.hasSpaceMark)
    return invalidArgument(reader.isByteLevel
                               ? "both ByteLevel and U+2581 for spaces, which is not supported"
                               : "neither ByteLevel nor U+2581 for spaces; other tokenizers are not supported");
  draft.table.model = reader.isByteLevel ? tok::Model::Bpe : tok::Model::Spm;
  DISTC_ASSIGN(std::vector<const Json *> decoders, componentsOf(file, "decoder", "decoders"));
  return reader.checkDecoder(decoders);
}

} // namespace distc::import
