#include "test/mutate/Frames.h"

#include "runtime/base/File.h"
#include "runtime/schema/SchemaHash.h"

#include <filesystem>
#include <fstream>

namespace distc::mutate {

namespace {

constexpr const char *kKinds[] = {"checksum",          "schema hash",   "set hash of a rank", "set hash of all ranks",
                                  "a byte of a file",  "a file cut",    "a file continued",   "a rank of another set",
                                  "two ranks swapped", "a rank missing"};

std::filesystem::path pathOf(const std::string &folder, size_t rank) {
  return std::filesystem::path(folder) / planFileName(static_cast<uint32_t>(rank));
}

std::vector<uint8_t> read(const std::filesystem::path &path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

void write(const std::filesystem::path &path, const std::vector<uint8_t> &bytes) {
  std::ofstream out(path, std::ios::binary);
  out.write(reinterpret_cast<const char *>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
}

/// A frame of any hashes, with the checksum that belongs to them, or another.
std::vector<uint8_t> frame(const std::vector<uint8_t> &payload, uint64_t schema, uint64_t set, uint64_t checksumError) {
  const uint64_t parts[] = {schema, set, hashBytes(std::as_bytes(std::span(payload)))};
  flatbuffers::FlatBufferBuilder builder(payload.size() + 256);
  builder.ForceVectorAlignment(payload.size(), 1, 16);
  const auto bytes = builder.CreateVector(payload.data(), payload.size());
  plan::FinishPlanFileBuffer(
      builder,
      plan::CreatePlanFile(builder, schema, set, hashBytes(std::as_bytes(std::span(parts))) ^ checksumError, bytes));
  return {builder.GetBufferPointer(), builder.GetBufferPointer() + builder.GetSize()};
}

} // namespace

size_t frameKinds() { return std::size(kKinds); }
const char *frameKind(size_t kind) { return kKinds[kind]; }

std::string damage(size_t kind, const std::string &folder, const Payloads &payloads, const Payloads &ofAnotherSet,
                   Random &random) {
  const size_t rank = random.below(payloads.size());
  const std::filesystem::path path = pathOf(folder, rank);
  const uint64_t set = planSetHash(payloads), bit = uint64_t(1) << random.below(64);
  std::vector<uint8_t> bytes = read(path);
  const std::string where = "rank " + std::to_string(rank);
  switch (kind) {
  case 0:
    write(path, frame(payloads[rank], kSchemaHash, set, bit));
    break;
  case 1:
    write(path, frame(payloads[rank], kSchemaHash ^ bit, set, 0));
    break;
  case 2:
    if (payloads.size() == 1)
      return {};
    write(path, frame(payloads[rank], kSchemaHash, set ^ bit, 0));
    break;
  case 3:
    for (size_t r = 0; r < payloads.size(); ++r)
      write(pathOf(folder, r), frame(payloads[r], kSchemaHash, set ^ bit, 0));
    break;
  case 4: {
    const size_t at = random.below(bytes.size());
    bytes[at] ^= static_cast<uint8_t>(1u << random.below(8));
    write(path, bytes);
    return where + ", byte " + std::to_string(at);
  }
  case 5:
    bytes.resize(random.below(bytes.size()));
    write(path, bytes);
    break;
  case 6:
    bytes.resize(bytes.size() + 1 + random.below(64), static_cast<uint8_t>(random.below(2)));
    write(path, bytes);
    break;
  case 7: // as if it were of this one
    if (ofAnotherSet.size() != payloads.size() || ofAnotherSet[rank] == payloads[rank])
      return {};
    write(path, frame(ofAnotherSet[rank], kSchemaHash, set, 0));
    break;
  case 8: {
    const size_t other = random.below(payloads.size());
    if (other == rank)
      return {};
    write(path, read(pathOf(folder, other)));
    write(pathOf(folder, other), bytes);
    break;
  }
  default:
    std::filesystem::remove(path);
  }
  return where;
}

} // namespace distc::mutate
