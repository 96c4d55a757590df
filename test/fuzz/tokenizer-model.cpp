#include "test/fuzz/Folder.h"
#include "test/fuzz/Tokenize.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static const distc::fuzz::Folder folder("tokenizer.model");
  distc::fuzz::tokenize(distc::import::importHfTokenizer(folder.with(data, size)));
  return 0;
}
