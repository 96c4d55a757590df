// The tiles of a plan's tile schedule: what compiler, verifier and kernels must agree on. docs/plan-format.md.
#pragma once

#include "runtime/schema/plan_generated.h"

namespace distc {

inline constexpr uint32_t kTileRows = 16, kTileColumns = 512;
inline constexpr uint32_t kTileBytes = kTileRows * kTileColumns * 2;
inline constexpr uint32_t kMaxRingBytes = 13 * kTileBytes;
inline constexpr uint32_t kStageColumns = 64;      // the columns of a stage's weights are a multiple of this
inline constexpr uint32_t kMaxNormColumns = 32768; // a norm's weights stand in shared memory beside the ring
inline constexpr uint32_t kMaxStages = 2048;       // of a program
inline constexpr uint32_t kMaxAppendHead = 256;    // elements of a head that an append stage takes
inline constexpr uint32_t kStageTokens = 64;       // the most that a stage takes; more run as single instructions
inline constexpr uint32_t kExpertTokens = 8;       // likewise for a stage of experts
inline constexpr uint32_t kMaxRoutes = 16;         // of a token, where its experts are a stage
inline constexpr uint32_t kRouterColumns = 8;      // the columns of a router's weights are a multiple of this
// A router stage has 16 rows of so many columns, or the logits of kExpertTokens tokens, in 220 KiB of shared memory.
inline constexpr uint32_t kMaxRouterColumns = 7040, kMaxRouterExperts = 7040;

/// Positions of the KV cache that an attention stage copies at once: a block has a multiple of them.
constexpr uint32_t attentionPositions(uint32_t headDim) { return headDim > 128 ? 8 : 16; }

/// Rows of one weight in a unit.
constexpr uint32_t unitRows(plan::StageKind kind) { return kind == plan::StageKind::Qkv ? 4 : 2; }

} // namespace distc
