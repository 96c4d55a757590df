// Splits text by regular expressions that come from a checkpoint, so are as little trusted as the rest of it.
#pragma once

#include "distc/Status.h"

#include <memory>
#include <string>
#include <string_view>
#include <vector>

struct pcre2_real_code_8;

namespace distc::text {

class RegexSplitter {
public:
  /// Each pattern (PCRE2 syntax, UTF and UCP) splits the pieces of the one before it into its matches and what lies
  /// between them; an empty match is a cut.
  static Result<RegexSplitter> compile(const std::vector<std::string> &patterns);

  /// The pieces of `text`, which is valid UTF-8, in order; none is empty. A pattern that takes too many steps is an
  /// error. Safe to call from several threads.
  Result<std::vector<std::string_view>> split(std::string_view text) const;

private:
  struct FreeCode {
    void operator()(pcre2_real_code_8 *code) const;
  };
  struct Pattern {
    std::string source;
    std::unique_ptr<pcre2_real_code_8, FreeCode> code;
  };
  std::vector<Pattern> patterns_;
};

} // namespace distc::text
