#include "runtime/comm/Bytes.h"

namespace distc {

ByteWriter &ByteWriter::raw(const void *data, size_t bytes) {
  const auto *first = static_cast<const std::byte *>(data);
  bytes_.insert(bytes_.end(), first, first + bytes);
  return *this;
}

} // namespace distc
