// The frame of a plan file (docs/plan-format.md): how a Plan becomes bytes, and how bytes are trusted.
#pragma once

#include "distc/Status.h"
#include "runtime/base/File.h"
#include "runtime/schema/plan_generated.h"

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace distc {

inline constexpr uint64_t kZeroFill = ~uint64_t(0);

/// Bytes of one element; for the quantized types, of one block.
uint64_t dtypeBytes(plan::DType dtype);
/// Elements in a block: 1 but for the quantized types.
uint64_t dtypeBlock(plan::DType dtype);
/// Bytes of `elements`, a number of whole blocks.
inline uint64_t bytesOf(plan::DType dtype, uint64_t elements) {
  return elements / dtypeBlock(dtype) * dtypeBytes(dtype);
}
inline bool isQuantized(plan::DType dtype) { return dtypeBlock(dtype) != 1; }

/// The payload bytes of a plan: the same plan gives the same bytes.
std::vector<uint8_t> packPayload(const plan::PlanT &plan);

/// The set hash over the payloads of all ranks, in rank order.
uint64_t planSetHash(std::span<const std::vector<uint8_t>> payloads);

/// The whole file around a payload.
std::vector<uint8_t> framePayload(std::span<const uint8_t> payload, uint64_t setHash);

/// A plan file whose frame, schema hash, checksum and FlatBuffers structure have been verified. Indices, offsets and
/// sizes inside are not: that is the verifier's work.
class PlanFile {
public:
  static Result<PlanFile> open(const std::string &path);

  const plan::Plan &plan() const { return *plan_; }
  uint64_t setHash() const { return setHash_; }
  /// XXH3-64 of the payload.
  uint64_t payloadHash() const { return payloadHash_; }
  const std::string &path() const { return file_.path(); }

private:
  MappedFile file_;
  const plan::Plan *plan_ = nullptr;
  uint64_t setHash_ = 0, payloadHash_ = 0;
};

/// Opens every rank of the plan set in `directory`, in rank order: all there, of one mesh and one set hash, which is
/// that of their payloads.
Result<std::vector<PlanFile>> openPlanSet(const std::string &directory);

/// The name of a rank's file in a plan set: "rank3.plan".
std::string planFileName(uint32_t rank);

} // namespace distc
