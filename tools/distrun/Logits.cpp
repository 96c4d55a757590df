#include "distc/Engine.h"
#include "runtime/base/File.h"
#include "tools/distrun/Commands.h"

#include <bit>
#include <cstring>

namespace distc {

// https://huggingface.co/docs/safetensors: the length of the header (u64, little-endian), the header (JSON), the data.
Status runLogits(const Options &options) {
  static_assert(std::endian::native == std::endian::little, "safetensors are little-endian");
  DISTC_ASSIGN(const std::unique_ptr<Runner> runner, openRunner(options));
  RunnerModel model(*runner);
  Engine engine(model);
  DISTC_ASSIGN(const std::vector<float> logits, engine.logits(options.tokens));
  const uint64_t bytes = logits.size() * sizeof(float);
  std::string header = R"({"logits":{"dtype":"F32","shape":[)" + std::to_string(options.tokens.size()) + "," +
                       std::to_string(runner->info().vocabulary) + R"(],"data_offsets":[0,)" + std::to_string(bytes) +
                       "]}}";
  header.resize((header.size() + 7) / 8 * 8, ' ');
  const uint64_t size = header.size();
  std::vector<std::byte> file(sizeof(size) + size + bytes);
  std::memcpy(file.data(), &size, sizeof(size));
  std::memcpy(file.data() + sizeof(size), header.data(), size);
  std::memcpy(file.data() + sizeof(size) + size, logits.data(), bytes);
  return writeFileAtomically(options.output, file);
}

} // namespace distc
