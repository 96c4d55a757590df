#include "test/fuzz/MemoryFile.h"
#include "test/fuzz/Tokenize.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  const distc::fuzz::MemoryFile file(data, size);
  const auto gguf = distc::import::readGguf(file.path());
  if (gguf.ok())
    distc::fuzz::tokenize(distc::import::importGgufTokenizer(gguf->metadata, "fuzz"));
  return 0;
}
