// Stages of a decode step: kernels that do the work of several instructions of a plan, launched so that a stage's
// weights are already under way when the stage before it ends (programmatic dependent launch). A matrix stage streams
// its weights through shared memory in tiles; which multiprocessor streams which is said by `bounds`
// (docs/plan-format.md, TileSchedule). Launchers follow the rules of Cuda.h.
//
// Row invariance: a token's result depends on nothing of the tokens beside it but whether there are more than 16, and
// not on the bounds.
#pragma once

#include "distc/kernels/Cuda.h"

#include <span>
#include <vector>

namespace distc::cuda {

inline constexpr int stageTokens = 64;       // the most that one launch takes
inline constexpr int stageColumns = 64;      // columns are a multiple of this
inline constexpr int maxNormColumns = 32768; // the norm's weights stand in shared memory; a layer norm's biases too
inline constexpr int layerNormTokens = 8;    // the most that a stage with a layer norm takes
inline constexpr int tileRows = 16, tileColumns = 512;
inline constexpr int chunkColumns = 256; // of a tile, where there are many tokens
inline constexpr int tileBytes = tileRows * tileColumns * 2;
inline constexpr int maxRingBytes = 13 * tileBytes; // what a block can spare of its shared memory

/// How the copy engine reads a weight: boxes of 2, 4, 6 and 8 rows of tileColumns columns, and of 8 rows of 256 columns
/// (CUtensorMap).
struct alignas(64) TileMaps {
  unsigned char box[4][128], wide[128];
};
/// For a weight in F16 or BF16, dense, at a multiple of 16 bytes; cols is a multiple of stageColumns.
cudaError_t encodeTileMaps(const Matrix &w, TileMaps &maps);

enum class StageForm : uint8_t {
  Rows, // y[t] = (x[t] w^T + bias) * factor + residual, for each of the weights; units of 2 rows, the last may be one
  Activated, // y[t] = activation(x[t] w^T + bias), or that with a soft cap; units as of Rows
  Glu,       // y[t] = activation(x[t] w0^T + bias0) * (x[t] w1^T + bias1); units of 2 rows of both
  Qkv, // w0, w1 rotated, w1 and w2 into the cache, w0 to y; units of 4 rows: two pairs of what is rotated together
  // Of a mixture of experts, for up to expertTokens tokens. A weight's rows are those of one expert, whose matrices lie
  // one after the other; a place is one of the `count` experts of a token (Cuda.h, expertLinear).
  ExpertGlu, // y[p] = activation(x[t] w0[e]^T) * (x[t] w1[e]^T), for each place; no tiles: the kernel deals them out
  ExpertSum, // y[t] = sum of weight[p] (x[p] w0[e]^T) over the token's places + residual; units of 2 rows of all
             // experts
};
/// Rows of one weight in a unit.
inline constexpr int rowUnit = 2, pairUnit = 4;
inline constexpr int expertTokens = 8;   // the most that stages of experts take
inline constexpr int expertPlaces = 128; // likewise: tokens * count
constexpr int unitRows(StageForm form) { return form == StageForm::Qkv ? pairUnit : rowUnit; }

/// Rows of the weights that are multiplied at once: n0 rows from r0 of weight w0 on, n1 rows from r1 of weight w1 on.
struct alignas(16) StageTile {
  int r0, r1;
  uint8_t w0, n0, w1, n1; // n0 > 0 where there is a tile
  uint16_t chosen = 0;    // ExpertGlu: which of the experts in use
  uint8_t results = 0;    // Rows, Activated, ExpertSum: n0 + n1, without the row behind an odd number
};

struct StageWeight {
  const TileMaps *maps = nullptr; // in device memory
  int rows = 0;                   // a multiple of unitRows; Rows, Activated: any number
  In bias;                        // F32, or none
  In residual;                    // Rows, ExpertSum: has the shape of y, or none
  Out y;                          // F32, or the stage's type
  int64_t yStride = 0;
};

struct MatrixStage {
  StageForm form = StageForm::Rows;
  Type type = Type::BF16; // of x, the weights, the residual and the cache
  int cols = 0;
  StageWeight weights[3]; // Rows: 1 to 3; Glu, ExpertGlu: 2; Qkv: 3; Activated, ExpertSum: 1
  int weightCount = 0;
  /// Multiprocessor s has tiles [s * maxTiles, (s + 1) * maxTiles), as listTiles says; in device memory.
  const StageTile *tiles = nullptr;
  int sms = 0, maxTiles = 0;
  int ringBytes =
      0; // of shared memory, for tiles; a multiple of tileBytes; of more than 16 tokens 64 KiB are taken at least

  // Before the product: x + addend, rounded and also written to `sum` where there is an addend; then the norm: RMS, or
  // the layer norm (Rows, Activated; up to layerNormTokens tokens), whose result is rounded.
  const float *norm = nullptr;   // null: x as it is, and no addend
  float eps = 0, normOffset = 0; // the latter is added to each of the weights of an RMS norm
  bool layerNorm = false;
  const float *normBias = nullptr; // of the layer norm, or null

  float factor = 1; // Rows, ExpertSum
  Activation activation = Activation::Silu;
  float softCap = 0; // Activated: y = softCap * tanh(y / softCap) in place of the activation; 0: none
  // Qkv
  RopeStyle style = RopeStyle::Half;
  const float *cosSin = nullptr; // as in Cuda.h
  int headDim = 0;               // a multiple of 4
  KvView cache{};
  // Of experts
  const float *routes = nullptr; // [tokens, count, 2]: a weight and an expert's id, as Cuda.h's route() makes them
  int count = 0, experts = 0;
  // Rows of one weight, Activated: best[t * sms + s] is the largest of multiprocessor s's results in columns below
  // `valid`, as packBest, which Cuda.h's topCandidates takes; null: not wanted
  uint64_t *best = nullptr;
  int valid = 0;

  /// The matrix stage after this one, in device memory; what it streams first is brought near. Null: none, or one of
  /// experts, which nobody knows yet.
  const MatrixStage *next = nullptr;
};

/// The tiles of all multiprocessors, where multiprocessor s has units [bounds[s], bounds[s + 1]) of all units of the
/// stage's weights, one weight after the other (Glu: of the pairs). Sets stage.maxTiles.
std::vector<StageTile> listTiles(MatrixStage &stage, std::span<const uint32_t> bounds);

struct StageInput {
  const void *x = nullptr, *addend = nullptr;
  void *sum = nullptr;
  int tokens = 0;    // 1 to stageTokens
  BatchView batch{}; // Qkv
};

/// False: of so many tokens the kernel has no form, or what it keeps of them leaves no room for the ring.
bool matrixStageSuits(const MatrixStage &stage, const StageInput &input);
cudaError_t matrixStage(const MatrixStage &stage, const StageInput &input, cudaStream_t stream);

/// Before the experts: x + addend, rounded, where there is an addend; the norm of it, its product with the router's
/// weights, and the choice of each token's experts, as Cuda.h's add, rmsNorm, linear and route make them.
struct RouterStage {
  Type type = Type::BF16; // of x, the weights and the normed rows
  int cols = 0, experts = 0, count = 0;
  bool normalize = false;
  const void *weights = nullptr;              // [experts, cols]
  const void *x = nullptr, *addend = nullptr; // [tokens, cols]
  void *sum = nullptr;                        // where there is an addend
  const float *norm = nullptr;                // null: no addend either
  float eps = 0, normOffset = 0;
  void *normed = nullptr;      // [tokens, cols]; where there is a norm
  float *logits = nullptr;     // [tokens, experts]
  float *routes = nullptr;     // [tokens, count, 2]
  uint32_t *arrived = nullptr; // 0 before the launch, and behind it; in device memory
};
bool routerStageSuits(const RouterStage &stage, int tokens);
cudaError_t routerStage(const RouterStage &stage, int tokens, cudaStream_t stream);
/// What fits for expertTokens tokens.
inline constexpr int maxRouterColumns = 7040, maxRouterExperts = 7040;

/// attention() for decode: a row for each sequence, of one type with the cache (F16, BF16); headDim a multiple of 8 up
/// to 256. Up to 8 blocks share a token and KV head, as many as the number of rows leaves room for, and merge through
/// their cluster; so the order of a sum depends on the number of rows. The token's own position must have been
/// appended by what is on the stream right before; all earlier ones, and the batch, before that.
cudaError_t decodeAttention(In q, int64_t rows, const KvView &cache, const AttentionParams &params,
                            const BatchView &batch, int sms, Out out, cudaStream_t stream);
/// A block of the cache has a multiple of these positions.
constexpr int copyPositions(int headDim) { return headDim > 128 ? 8 : 16; }
bool decodeAttentionSuits(Type q, const KvView &cache);

} // namespace distc::cuda
