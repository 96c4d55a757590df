#include "runtime/schema/PlanFile.h"

#include "runtime/schema/SchemaHash.h"

#include <cstring>
#include <filesystem>

namespace distc {

namespace {

// The deepest table chain of the schema is PlanFile → Plan → Program → Instruction → op; the counts bound a hostile
// file's work, not a real plan's size.
constexpr flatbuffers::uoffset_t kMaxDepth = 16;
constexpr flatbuffers::uoffset_t kMaxTables = 100'000'000;

// Hashing the payload's hash keeps this one pass over the payload without a copy.
uint64_t frameChecksum(uint64_t schemaHash, uint64_t setHash, uint64_t payloadHash) {
  uint64_t parts[3] = {schemaHash, setHash, payloadHash};
  return hashBytes(std::as_bytes(std::span(parts)));
}

std::string hex(uint64_t value) {
  char text[24];
  std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(value));
  return text;
}

} // namespace

uint64_t dtypeBytes(plan::DType dtype) {
  switch (dtype) {
  case plan::DType::F32:
  case plan::DType::I32:
    return 4;
  case plan::DType::F16:
  case plan::DType::BF16:
    return 2;
  case plan::DType::Q8_0:
    return 34;
  case plan::DType::Q4_0:
    return 18;
  case plan::DType::Q4_1:
    return 20;
  case plan::DType::Q5_0:
    return 22;
  case plan::DType::Q5_1:
    return 24;
  case plan::DType::Q2_K:
    return 84;
  case plan::DType::Q3_K:
    return 110;
  case plan::DType::Q4_K:
    return 144;
  case plan::DType::Q5_K:
    return 176;
  case plan::DType::Q6_K:
    return 210;
  }
  return 0;
}

uint64_t dtypeBlock(plan::DType dtype) { return dtype <= plan::DType::I32 ? 1 : dtype <= plan::DType::Q5_1 ? 32 : 256; }

std::vector<uint8_t> packPayload(const plan::PlanT &plan) {
  flatbuffers::FlatBufferBuilder builder(1 << 16);
  builder.Finish(plan::Plan::Pack(builder, &plan));
  return {builder.GetBufferPointer(), builder.GetBufferPointer() + builder.GetSize()};
}

uint64_t planSetHash(std::span<const std::vector<uint8_t>> payloads) {
  std::vector<uint64_t> hashes;
  hashes.reserve(payloads.size());
  for (const std::vector<uint8_t> &payload : payloads)
    hashes.push_back(hashBytes(std::as_bytes(std::span(payload))));
  return hashBytes(std::as_bytes(std::span(hashes)));
}

std::vector<uint8_t> framePayload(std::span<const uint8_t> payload, uint64_t setHash) {
  flatbuffers::FlatBufferBuilder builder(payload.size() + 256);
  builder.ForceVectorAlignment(payload.size(), 1, 16);
  auto bytes = builder.CreateVector(payload.data(), payload.size());
  uint64_t checksum = frameChecksum(kSchemaHash, setHash, hashBytes(std::as_bytes(payload)));
  plan::FinishPlanFileBuffer(builder, plan::CreatePlanFile(builder, kSchemaHash, setHash, checksum, bytes));
  return {builder.GetBufferPointer(), builder.GetBufferPointer() + builder.GetSize()};
}

Result<PlanFile> PlanFile::open(const std::string &path) {
  PlanFile result;
  DISTC_ASSIGN(result.file_, MappedFile::open(path));
  auto *data = reinterpret_cast<const uint8_t *>(result.file_.bytes().data());
  size_t size = result.file_.size();

  if (size < 16 || !plan::PlanFileBufferHasIdentifier(data))
    return dataLoss(path + ": not a plan file (" + std::to_string(size) + " bytes, no DPLN identifier)");
  flatbuffers::Verifier frameVerifier(data, size, kMaxDepth, kMaxTables);
  if (!plan::VerifyPlanFileBuffer(frameVerifier))
    return dataLoss(path + ": damaged: the frame of the plan does not hold together");
  const plan::PlanFile *frame = plan::GetPlanFile(data);
  if (frame->schema_hash() != kSchemaHash)
    return failedPrecondition(path + ": plan of schema " + hex(frame->schema_hash()) + ", this program reads schema " +
                              hex(kSchemaHash) + "; compile the model again");
  std::span<const uint8_t> payload(frame->payload()->data(), frame->payload()->size());
  result.payloadHash_ = hashBytes(std::as_bytes(payload));
  uint64_t actual = frameChecksum(frame->schema_hash(), frame->set_hash(), result.payloadHash_);
  if (actual != frame->checksum())
    return dataLoss(path + ": damaged: checksum is " + hex(actual) + ", expected " + hex(frame->checksum()) +
                    "; compile the model again");
  // The checksum leaves out the frame itself, its padding, and what follows it.
  const std::vector<uint8_t> expected = framePayload(payload, frame->set_hash());
  if (expected.size() != size)
    return dataLoss(path + ": damaged: " + std::to_string(size) + " bytes, expected " +
                    std::to_string(expected.size()));
  if (std::memcmp(expected.data(), data, size) != 0)
    return dataLoss(path + ": damaged: the frame of the plan is not as it was written");
  flatbuffers::Verifier payloadVerifier(payload.data(), payload.size(), kMaxDepth, kMaxTables);
  if (!payloadVerifier.VerifyBuffer<plan::Plan>(nullptr))
    return dataLoss(path + ": damaged: the payload does not hold together");
  result.plan_ = flatbuffers::GetRoot<plan::Plan>(payload.data());
  result.setHash_ = frame->set_hash();
  return result;
}

std::string planFileName(uint32_t rank) { return "rank" + std::to_string(rank) + ".plan"; }

Result<std::vector<PlanFile>> openPlanSet(const std::string &directory) {
  auto pathOf = [&](uint32_t rank) { return (std::filesystem::path(directory) / planFileName(rank)).string(); };
  std::error_code ignored;
  if (std::filesystem::is_regular_file(directory, ignored))
    return failedPrecondition(directory + ": is a file; expected the folder of a plan set, made by `distc compile`");
  if (!std::filesystem::is_directory(directory, ignored))
    return failedPrecondition(directory + ": no such folder; expected a plan set made by `distc compile`");
  if (!std::filesystem::exists(pathOf(0), ignored))
    return failedPrecondition(directory + ": holds no " + planFileName(0) +
                              "; expected a plan set made by `distc compile`");
  std::vector<PlanFile> set;
  std::vector<uint64_t> hashes;
  uint64_t ranks = 1;
  for (uint64_t rank = 0; rank < ranks; ++rank) {
    std::string path = pathOf(static_cast<uint32_t>(rank));
    if (rank > 0 && !std::filesystem::exists(path, ignored))
      return failedPrecondition(directory + ": rank " + std::to_string(rank) + " of " + std::to_string(ranks) +
                                " is missing: no " + planFileName(static_cast<uint32_t>(rank)) +
                                "; compile the model again");
    DISTC_ASSIGN(PlanFile file, PlanFile::open(path));
    const plan::Mesh &mesh = *file.plan().mesh();
    uint64_t size = uint64_t(mesh.tp()) * mesh.pp();
    if (rank == 0)
      ranks = size;
    if (mesh.rank() != rank || size != ranks)
      return failedPrecondition(path + ": is rank " + std::to_string(mesh.rank()) + " of " + std::to_string(size) +
                                ", expected rank " + std::to_string(rank) + " of " + std::to_string(ranks));
    if (rank > 0 && file.setHash() != set[0].setHash())
      return failedPrecondition(path + ": belongs to plan set " + hex(file.setHash()) + ", " + planFileName(0) +
                                " to " + hex(set[0].setHash()) + "; compile the model again");
    hashes.push_back(file.payloadHash());
    set.push_back(std::move(file));
  }
  if (const uint64_t hash = hashBytes(std::as_bytes(std::span(hashes))); hash != set[0].setHash())
    return dataLoss(directory + ": damaged: the set hash is " + hex(set[0].setHash()) + ", that of the plans is " +
                    hex(hash) + "; compile the model again");
  for (const auto &entry : std::filesystem::directory_iterator(directory, ignored)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with("rank") || !name.ends_with(".plan"))
      continue;
    bool known = false;
    for (uint32_t rank = 0; rank < ranks && !known; ++rank)
      known = name == planFileName(rank);
    if (!known)
      return failedPrecondition(entry.path().string() + ": is not of this plan set, which has " +
                                std::to_string(ranks) + " ranks; compile the model again");
  }
  return set;
}

} // namespace distc
