// A chat template: parsed and rendered. A hostile one ends with an error, soon.
#include "runtime/text/ChatTemplate.h"

#include <cstdint>
#include <cstdlib>

using namespace distc;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  const std::vector<ChatMessage> messages = {{"system", "s"}, {"user", "u \xc3\xa9"}, {"assistant", "a"}, {"user", ""}};
  auto text = renderChat({reinterpret_cast<const char *>(data), size}, messages, {"<s>", "</s>", size % 2 == 0});
  if (!text.ok() && text.status().message().empty())
    std::abort();
  return 0;
}
