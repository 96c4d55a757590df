// A config.json, as the compiler opens a model without weights: family, values, rotary frequencies.
#include "compiler/Import/ModelSource.h"
#include "test/fuzz/Folder.h"

#include <cstdlib>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static const distc::fuzz::Folder folder("config.json");
  const auto source = distc::import::openModel(folder.with(data, size), false);
  if (!source.ok() && source.status().message().empty())
    std::abort();
  return 0;
}
