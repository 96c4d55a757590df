#include "compiler/Import/Json.h"

#include <cstdint>
#include <cstdlib>

using namespace distc::import;

// What is accepted must survive writing and reading again.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  auto json = parseJson({reinterpret_cast<const char *>(data), size}, "fuzz");
  if (!json.ok())
    return 0;
  auto again = parseJson(json->dump(), "again");
  if (!again.ok() || *again != *json)
    std::abort();
  return 0;
}
