// Patterns by which text is split before byte pair encoding. Source: the tokenizer.json of the model that each name
// stands for, in Hugging Face's hub.
#include "compiler/Import/TokenizerImportCommon.h"

#include <map>

namespace distc::import {

const char *const kGpt2Pattern = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

namespace {

const char *const kLlama3Pattern = R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|)"
                                   R"( ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

const char *const kQwen2Pattern = R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|)"
                                  R"( ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

const char *const kTekkenPattern = R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|)"
                                   R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|)"
                                   R"(\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

const char *const kO200kPattern =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|)"
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|)"
    R"(\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

// llama.cpp's own: what it does for files that say "default".
const std::vector<std::string> kDefaultPatterns = {R"([\p{P}\$\+<=>\^~\|]+)", kGpt2Pattern, R"(\p{N}+)",
                                                   R"([0-9][0-9][0-9])"};

const std::vector<std::string> kDeepseek3Patterns = {
    R"(\p{N}{1,3})", R"([\x{4E00}-\x{9FA5}\x{3040}-\x{309F}\x{30A0}-\x{30FF}]+)",
    R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+|)"
    R"( ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"};

const std::map<std::string, NamedSplit> &namedSplits() {
  static const std::map<std::string, NamedSplit> splits = [] {
    std::map<std::string, NamedSplit> all;
    auto add = [&](std::initializer_list<const char *> names, const NamedSplit &split) {
      for (const char *name : names)
        all[name] = split;
    };
    add({"default"}, {kDefaultPatterns});
    add({"gpt-2", "phi-2", "mpt", "olmo", "jais"}, {{kGpt2Pattern}});
    add({"smollm", "starcoder", "refact", "command-r", "codeshell", "exaone"}, {{R"(\p{N})", kGpt2Pattern}});
    add({"llama3", "llama-v3", "llama-bpe", "falcon3"}, {{kLlama3Pattern}, true, true});
    add({"dbrx", "smaug-bpe"}, {{kLlama3Pattern}});
    add({"qwen2", "stablelm2", "deepseek-r1-qwen", "megrez"}, {{kQwen2Pattern}});
    add({"tekken"}, {{kTekkenPattern}, true, true});
    add({"gpt-4o", "llama4"}, {{kO200kPattern}});
    add({"deepseek-v3"}, {kDeepseek3Patterns});
    return all;
  }();
  return splits;
}

} // namespace

Result<NamedSplit> namedSplit(const std::string &pre) {
  const auto &splits = namedSplits();
  auto found = splits.find(pre);
  if (found == splits.end()) {
    std::string known;
    for (const auto &[name, split] : splits)
      known += (known.empty() ? "" : ", ") + name;
    return invalidArgument("pre-tokenizer '" + pre + "' is not known; supported are " + known);
  }
  NamedSplit split = found->second;
  for (std::string &pattern : split.patterns) {
    DISTC_ASSIGN(pattern, toPcre2(pattern));
  }
  return split;
}

Result<std::string> toPcre2(std::string_view pattern) {
  // PCRE2's \s takes U+180E and its \w leaves marks out; Oniguruma's follow the Unicode properties.
  constexpr std::string_view kWordSet = R"(\p{Alphabetic}\p{M}\p{Nd}\p{Pc})";
  auto unsupported = [&](std::string_view what) {
    return invalidArgument("pre-tokenizer pattern '" + std::string(pattern.substr(0, 200)) + "' uses " +
                           std::string(what) + ", which is not supported");
  };
  std::string out;
  bool inClass = false, hasAnchor = false;
  for (size_t i = 0; i < pattern.size(); ++i) {
    char c = pattern[i];
    if (c == '\\' && i + 1 < pattern.size()) {
      char escaped = pattern[++i];
      if (escaped == 's' || escaped == 'S')
        out += escaped == 's' ? R"(\p{White_Space})" : R"(\P{White_Space})";
      else if (escaped == 'w')
        out += inClass ? std::string(kWordSet) : "[" + std::string(kWordSet) + "]";
      else if (escaped == 'h' || escaped == 'H' || escaped == 'W' || escaped == 'b' || escaped == 'B' ||
               escaped == 'y' || escaped == 'Y' || escaped == 'K' || escaped == 'g' || escaped == 'k')
        return unsupported(std::string("\\") + escaped);
      else
        (out += '\\') += escaped;
      continue;
    }
    if (inClass && (c == '[' || pattern.substr(i, 2) == "&&"))
      return unsupported("a set in a set");
    if (!inClass && pattern.substr(i, 2) == "(?" && i + 2 < pattern.size()) {
      // Groups mean the same in both; of the options only i does (Ruby's m is PCRE2's s).
      size_t end = pattern.find_first_of(":)", i);
      std::string_view head = pattern.substr(i + 2, end == std::string_view::npos ? end : end - i - 2);
      bool isGroup = head.empty() || head.starts_with('=') || head.starts_with('!') || head.starts_with('>') ||
                     head.starts_with("<=") || head.starts_with("<!");
      if (!isGroup && head != "i" && head != "-i")
        return unsupported("(?" + std::string(head));
    }
    if (!inClass && c == '[') {
      inClass = true;
      out += c;
      // A ] that comes first is a member.
      if (i + 1 < pattern.size() && pattern[i + 1] == '^')
        out += pattern[++i];
      if (i + 1 < pattern.size() && pattern[i + 1] == ']') {
        out += "\\]";
        ++i;
      }
      continue;
    }
    inClass = inClass && c != ']';
    hasAnchor = hasAnchor || (!inClass && (c == '^' || c == '$'));
    out += c;
  }
  // In Ruby's syntax the anchors stand at every line.
  return hasAnchor ? "(?m)" + out : out;
}

} // namespace distc::import
