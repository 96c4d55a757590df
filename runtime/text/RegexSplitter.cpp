#include "runtime/text/RegexSplitter.h"

#include "runtime/text/Utf8.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

namespace distc::text {

namespace {

constexpr size_t kMaxPatterns = 64;
constexpr size_t kMaxPatternBytes = 65536;
// Backtracking steps for one match. Honest patterns need a few for each character of the longest match.
constexpr uint32_t kStepsPerMatch = 10000;
constexpr uint32_t kStepsPerByte = 16;
constexpr uint32_t kHeapLimitKiB = 65536;
constexpr size_t kJitStackBytes = 1 << 20;

template <typename T, void (*Free)(T *)> struct Deleter {
  void operator()(T *object) const { Free(object); }
};
template <typename T, void (*Free)(T *)> using Owned = std::unique_ptr<T, Deleter<T, Free>>;

using CompileContext = Owned<pcre2_compile_context, pcre2_compile_context_free>;
using MatchContext = Owned<pcre2_match_context, pcre2_match_context_free>;
using MatchData = Owned<pcre2_match_data, pcre2_match_data_free>;
using JitStack = Owned<pcre2_jit_stack, pcre2_jit_stack_free>;

std::string messageOf(int error) {
  PCRE2_UCHAR text[256];
  pcre2_get_error_message(error, text, sizeof text);
  return reinterpret_cast<const char *>(text);
}

Status matchFailure(const std::string &source, int error) {
  bool tooCostly = error == PCRE2_ERROR_MATCHLIMIT || error == PCRE2_ERROR_DEPTHLIMIT ||
                   error == PCRE2_ERROR_HEAPLIMIT || error == PCRE2_ERROR_JIT_STACKLIMIT;
  std::string what = "pre-tokenizer pattern '" + source + "': " + messageOf(error);
  return tooCostly ? resourceExhausted(what + "; the pattern backtracks too much on this text") : internal(what);
}

} // namespace

void RegexSplitter::FreeCode::operator()(pcre2_code *code) const { pcre2_code_free(code); }

Result<RegexSplitter> RegexSplitter::compile(const std::vector<std::string> &patterns) {
  if (patterns.size() > kMaxPatterns)
    return dataLoss(std::to_string(patterns.size()) + " pre-tokenizer patterns, expected at most " +
                    std::to_string(kMaxPatterns));
  CompileContext context(pcre2_compile_context_create(nullptr));
  if (!context)
    return resourceExhausted("no memory for the pre-tokenizer");
  pcre2_set_max_pattern_length(context.get(), kMaxPatternBytes);
  RegexSplitter splitter;
  for (const std::string &source : patterns) {
    int error = 0;
    PCRE2_SIZE offset = 0;
    pcre2_code *code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(source.data()), source.size(),
                                     PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C, &error, &offset, context.get());
    if (!code)
      return dataLoss("pre-tokenizer pattern '" + source.substr(0, 200) + "': " + messageOf(error) + " at byte " +
                      std::to_string(offset));
    // Without executable memory the interpreter gives the same matches, only slower.
    (void)pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);
    splitter.patterns_.push_back({source, std::unique_ptr<pcre2_code, FreeCode>(code)});
  }
  return splitter;
}

Result<std::vector<std::string_view>> RegexSplitter::split(std::string_view text) const {
  std::vector<std::string_view> pieces;
  if (!text.empty())
    pieces.push_back(text);
  if (patterns_.empty())
    return pieces;

  MatchContext context(pcre2_match_context_create(nullptr));
  JitStack stack(pcre2_jit_stack_create(32 << 10, kJitStackBytes, nullptr));
  if (!context || !stack)
    return resourceExhausted("no memory for the pre-tokenizer");
  pcre2_jit_stack_assign(context.get(), nullptr, stack.get());
  pcre2_set_heap_limit(context.get(), kHeapLimitKiB);

  for (const Pattern &pattern : patterns_) {
    MatchData match(pcre2_match_data_create_from_pattern(pattern.code.get(), nullptr));
    if (!match)
      return resourceExhausted("no memory for the pre-tokenizer");
    std::vector<std::string_view> next;
    next.reserve(pieces.size());
    for (std::string_view piece : pieces) {
      uint64_t steps = kStepsPerMatch + uint64_t(kStepsPerByte) * piece.size();
      pcre2_set_match_limit(context.get(), static_cast<uint32_t>(std::min<uint64_t>(steps, UINT32_MAX)));
      size_t cut = 0; // what lies before is in `next`
      auto cutAt = [&](size_t offset) {
        if (offset > cut)
          next.push_back(piece.substr(cut, offset - cut));
        cut = std::max(cut, offset);
      };
      for (size_t from = 0; from < piece.size();) {
        int rc = pcre2_match(pattern.code.get(), reinterpret_cast<PCRE2_SPTR>(piece.data()), piece.size(), from,
                             PCRE2_NO_UTF_CHECK, match.get(), context.get());
        if (rc == PCRE2_ERROR_NOMATCH)
          break;
        if (rc < 0)
          return matchFailure(pattern.source, rc);
        PCRE2_SIZE *bounds = pcre2_get_ovector_pointer(match.get());
        size_t begin = bounds[0], end = bounds[1];
        if (begin < from || end < begin)
          return dataLoss("pre-tokenizer pattern '" + pattern.source + "' matches backwards");
        cutAt(begin);
        cutAt(end);
        from = end;
        if (begin == end && end < piece.size())
          from += stepUtf8(piece.substr(end)).length;
        else if (begin == end)
          break;
      }
      cutAt(piece.size());
    }
    pieces = std::move(next);
  }
  return pieces;
}

} // namespace distc::text
