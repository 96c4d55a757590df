#include "compiler/Import/CheckpointIndex.h"
#include "test/fuzz/MemoryFile.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  distc::fuzz::MemoryFile file(data, size);
  auto result = distc::import::readSafetensors(file.path());
  if (!result.ok() && result.status().message().empty())
    std::abort();
  return 0;
}
