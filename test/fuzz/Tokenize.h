// What a tokenizer that was imported must stand: to be opened by the runtime, and to take any text.
#pragma once

#include "compiler/Import/TokenizerImport.h"
#include "runtime/text/Tokenizer.h"

#include <cstdlib>

namespace distc::fuzz {

inline void tokenize(const Result<import::TokenizerBytes> &imported) {
  if (!imported.ok() && imported.status().message().empty())
    std::abort();
  if (!imported.ok() || !*imported)
    return;
  const std::vector<uint8_t> &bytes = **imported;
  auto tokenizer = Tokenizer::fromBytes({bytes.begin(), bytes.end()}, "fuzz");
  if (!tokenizer.ok()) // what the importer accepts, the runtime opens
    std::abort();
  for (const char *text : {"", "Hello, wo\xc3\xafrld! 123  <s>\n", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}) {
    auto ids = (*tokenizer)->encode(text, true, true);
    if (ids.ok() && !(*tokenizer)->decode(*ids, true).ok())
      std::abort();
  }
}

} // namespace distc::fuzz
