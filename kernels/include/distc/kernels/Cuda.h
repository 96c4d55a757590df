// CUDA kernels of the plan's instructions, one launcher each: raw device pointers, sizes and a stream; no allocation,
// no synchronization, nothing read from device memory on the host, so every launcher can be captured into a graph and
// replayed. What a step's batch says (tokens, positions, sequenceOf, block tables, sampling rows) is in device memory;
// the number of rows is an argument. A launcher returns the launch's error, cudaErrorInvalidValue for arguments that it
// does not support, and does nothing for no rows. Semantics and layouts are those of Cpu.h; all arithmetic is in f32,
// rounded once, to nearest even, where a value is stored.
//
// Row invariance: the result of one row does not depend on how many rows a call covers, nor on which. It holds for
// every kernel here but attentionPrefill; the order of a sum depends on the row's width alone (attention: on position,
// window, headDim, the type of the cache and clusterBlocks).
//
// Any address that is aligned to its element is right; 16-byte loads are used where pointers, widths and strides allow.
#pragma once

#include "distc/kernels/Sampling.h"
#include "distc/kernels/WeightType.h"

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

namespace distc::cuda {

enum class Type : uint8_t { F32, F16, BF16 };

/// A dense operand with its element type. data may be null where an operand is optional.
struct In {
  const void *data = nullptr;
  Type type = Type::F32;
};
struct Out {
  void *data = nullptr;
  Type type = Type::F32;
};

/// A row-major matrix; row n starts at data + n * rowStride elements.
struct Matrix {
  const void *data;
  Type type;
  int64_t rows;
  int64_t cols;
  int64_t rowStride;
};

/// y[t * yStride + n] = sum_k x[t, k] * w[n, k] + bias[n], the last where it is given. The types are independent of
/// each other.
cudaError_t linear(In x, int64_t tokens, const Matrix &w, In bias, Out y, int64_t yStride, cudaStream_t stream);

enum class Activation : uint8_t { Silu, Gelu, GeluTanh, Relu };

/// Some columns of a product as an output of their own, [rows, columns] of the type of x at a multiple of 16 bytes.
struct ProductPart {
  void *y;
  const float *bias; // [columns], or null
  int64_t columns;   // a multiple of 8
};
inline constexpr int maxProductParts = 3;

/// For many rows: y[t, n] = sum_k x[t, k] * w[n, k] + bias[n] on the tensor cores, in f32. x and w are of one 16-bit
/// type, at multiples of 16 bytes, their columns a multiple of 8; the rows of w are the columns of the parts, one after
/// the other. A residual, for one part alone and of its type and size, is added to what has been rounded, as `add`
/// does; it may be y.
bool productSuits(In x, const Matrix &w);
cudaError_t product(In x, int64_t rows, const Matrix &w, const ProductPart *parts, int count, In residual,
                    cudaStream_t stream);

/// y[t, n] = activation(x[t] . w[n]) * (x[t] . w[n + columns]), rounded once; w has the rows of the gate, then those of
/// what it multiplies, as many, a multiple of 8. y [rows, columns] has the type of x. Otherwise as product.
cudaError_t gatedProduct(In x, int64_t rows, const Matrix &w, Activation activation, void *y, cudaStream_t stream);

/// y[t] = residual[t] + x[t] * rsqrt(mean(x[t]^2) + eps) * (weight + weightOffset), the first where it is given. y and
/// the residual have the type of x; y may be either.
cudaError_t rmsNorm(In x, In weight, float eps, int64_t width, int64_t rows, Out y, cudaStream_t stream,
                    float weightOffset = 0, In residual = {});

/// out[t * outStride] = sum_i x[t, i]^2: of parts of rows, whose sums then make the norm.
cudaError_t squareSum(In x, int64_t width, int64_t rows, float *out, int64_t outStride, cudaStream_t stream);

/// Sums of squares of rows of `elements` elements; row t's is data[t * stride].
struct Squares {
  const float *data;
  int64_t stride;
  int64_t elements;
};
/// rmsNorm of parts of rows, from the sums of the whole.
cudaError_t rmsNormOfParts(In x, const Squares &squares, In weight, float eps, int64_t width, int64_t rows, Out y,
                           cudaStream_t stream, float weightOffset = 0);

/// y[t] = (x[t] - mean) * rsqrt(mean((x[t] - mean)^2) + eps) * weight + bias, mean over x[t]; bias may be null. weight
/// and bias are of one type. y has the type of x and may be x.
cudaError_t layerNorm(In x, In weight, In bias, float eps, int64_t width, int64_t rows, Out y, cudaStream_t stream);

/// y[t, :] = table[tokens[t] - firstRow, :] * factor, zeros where that is not a row of the table; and where there are
/// positions + added[positions[t], :], of the table's type.
cudaError_t embedding(const int32_t *tokens, int64_t rows, const Matrix &table, int64_t firstRow, Out y,
                      cudaStream_t stream, float factor = 1, const int32_t *positions = nullptr,
                      const Matrix &added = {});

/// y[t, :] = x[t, :] + table[positions[t], :]. y has the type of x and may be x.
cudaError_t positionEmbedding(In x, const int32_t *positions, int64_t rows, const Matrix &table, Out y,
                              cudaStream_t stream);

enum class RopeStyle : uint8_t { Half, Interleaved };

/// Rotates the first `rotated` elements of each of `heads` heads of row t by the angles of row positions[t] of cosSin,
/// which is as in Cpu.h, and copies the others. y has the type of x and may be x.
cudaError_t rope(In x, const int32_t *positions, const float *cosSin, int64_t heads, int64_t headDim, int64_t rotated,
                 RopeStyle style, int64_t rows, Out y, cudaStream_t stream);

/// One layer's cache: [blocks, 2, heads, blockTokens, headDim].
struct KvView {
  void *data;
  Type type;
  int64_t heads;
  int64_t blockTokens;
  int64_t headDim;
};

/// The batch in device memory: position t of the batch is position positions[t] of the sequence whose block table is
/// row sequenceOf[t] of blockTables.
struct BatchView {
  const int32_t *blockTables;
  int64_t blocksPerSequence;
  const int32_t *sequenceOf;
  const int32_t *positions;
};

/// Writes k[t], v[t] ([heads, headDim] each, of one type) at their places in the cache.
cudaError_t kvAppend(In k, In v, int64_t rows, const KvView &cache, const BatchView &batch, cudaStream_t stream);

/// An RMS norm of `width` elements: of each head, or of all of a row together.
struct HeadNorm {
  const float *weight = nullptr; // null: none
  float eps = 0, offset = 0;     // the latter is added to each weight
  int64_t width = 0;
};

/// What stands between the projections and attention: [norm] and [rotation] of q into y, which may be q; [norm] and
/// [rotation] of k, which then goes into the cache with v. All of one type; q and k have heads of cache.headDim.
struct RopeAppend {
  In q, k, v; // q without data: there is none
  int64_t heads = 0;
  HeadNorm normQ, normK;
  const float *cosSin = nullptr;      // as in Cpu.h
  const int32_t *angleRows = nullptr; // the row of each token's angles
  int64_t rotated = 0;                // elements of each head, as for rope; 0: none, and no angles
  RopeStyle style = RopeStyle::Half;
  Out y;
};

inline constexpr int maxAppendHeadDim = 256;
/// headDim is at most that. The same bits as rope and kvAppend where there are no norms; these are not rounded before
/// the rotation. The batch and the angles must be there before what is on the stream right before this begins.
bool ropeAppendSuits(const RopeAppend &a, const KvView &cache);
cudaError_t ropeAppend(const RopeAppend &a, int64_t rows, const KvView &cache, const BatchView &batch,
                       cudaStream_t stream);

struct AttentionParams {
  int64_t heads; // query heads; query head h reads KV head h / (heads / cache.heads)
  float scale;
  int64_t window; // 0: all positions; w: the last w
  float softCap;  // 0: none
  /// How many blocks, a cluster, share one token and KV head: 1, 2, 4 or 8. Decode of few tokens wants 8, prefill 1.
  /// The bits of the result depend on it.
  int clusterBlocks = 1;
};

/// out[t, h] = softmax(scale * q[t, h] . K[0..p]) V[0..p] with p = positions[t]; q and out are [rows, heads, headDim].
/// headDim is any multiple of 2 up to 256; any number of query heads may share a KV head.
cudaError_t attention(In q, int64_t rows, const KvView &cache, const AttentionParams &params, const BatchView &batch,
                      Out out, cudaStream_t stream);

/// The same for the many rows of prefill, on the tensor cores: q, cache and out of one 16-bit type, at multiples of 16
/// bytes, headDim a multiple of 8, at most 128 query heads to a KV head; clusterBlocks says nothing. The rows of a
/// sequence stand together, in the order of their positions, which have no gaps. A row's bits depend on the rows before
/// it in the call, as their places in tiles do.
bool attentionPrefillSuits(In q, const KvView &cache, const AttentionParams &params, Out out);
cudaError_t attentionPrefill(In q, int64_t rows, const KvView &cache, const AttentionParams &params,
                             const BatchView &batch, Out out, cudaStream_t stream);

/// out[i] = a[i] + b[i]; all of one type. out may be a or b.
cudaError_t add(In a, In b, int64_t n, Out out, cudaStream_t stream);

/// out[i] = input[i] * factor, and cap * tanh(input[i] / cap); both of one type. out may be input.
cudaError_t scale(In input, float factor, int64_t n, Out out, cudaStream_t stream);
cudaError_t softCap(In input, float cap, int64_t n, Out out, cudaStream_t stream);

/// out[i] = activation(gate[i]) * up[i]; all of one type; up null: activation(gate[i]). out may be gate or up.
cudaError_t glu(In gate, In up, Activation activation, int64_t n, Out out, cudaStream_t stream);

/// docs/plan-format.md, Route: logits [rows, experts] in f32 -> routes [rows, count, 2], as in Cpu.h.
inline constexpr int64_t maxExperts = int64_t(1) << 24;
cudaError_t route(const float *logits, int64_t rows, int64_t experts, int64_t count, bool normalize, float *routes,
                  cudaStream_t stream);

/// Dense matrices [experts, rows, cols].
struct ExpertMatrices {
  const void *data;
  Type type;
  int64_t experts;
  int64_t rows;
  int64_t cols;
};

/// y[i, n] = sum_k x[i / repeat, k] * w[id of routes[i], n, k] for each place i of routes [places, 2], whose ids are
/// experts of w. Each expert's weights are read from memory once, however many places are its own.
cudaError_t expertLinear(In x, int64_t repeat, const float *routes, int64_t places, const ExpertMatrices &w, Out y,
                         cudaStream_t stream);

/// For products of many places: the places of each expert of routes [places, 2], into expertListBytes of device memory
/// at a multiple of 16 bytes. One list serves all products over these routes.
inline constexpr int64_t maxListedExperts = 1024;
int64_t expertListBytes(int64_t places, int64_t experts);
cudaError_t listExperts(const float *routes, int64_t places, int64_t experts, void *lists, cudaStream_t stream);

/// expertLinear by such lists, on the tensor cores: x, w and y of one 16-bit type, x and w at multiples of 16 bytes,
/// columns a multiple of 8. Other bits than expertLinear's, which depend on the columns alone as well.
bool groupedProductSuits(In x, int64_t places, const ExpertMatrices &w);
cudaError_t groupedProduct(In x, int64_t repeat, void *lists, int64_t places, const ExpertMatrices &w, void *y,
                           cudaStream_t stream);
/// y[i, n] = activation(product with gate) * (product with up), rounded once; `up` has matrices of the same shapes.
cudaError_t groupedGatedProduct(In x, int64_t repeat, void *lists, int64_t places, const ExpertMatrices &gate,
                                const void *up, Activation activation, void *y, cudaStream_t stream);

/// y[t] = sum_j routes[t, j, 0] * x[t, j], in the order of j; x [rows, count, width], y [rows, width] of its type. A
/// residual of the type and size of y is added to what has been rounded; it may be y.
cudaError_t combine(In x, const float *routes, int64_t rows, int64_t count, int64_t width, In residual, Out y,
                    cudaStream_t stream);

inline constexpr int maxPeers = 16;

/// The same buffer of each member of a group, in the order of the member's index.
struct Peers {
  const void *data[maxPeers];
  int count;
};

enum class ReduceOp : uint8_t { Sum, Max };

/// out[i] = the sum, or the largest, of peers[0][i], peers[1][i] ..., added up in this order; all of out's type. out
/// may be one of them. A NaN is no maximum unless all are.
cudaError_t reduce(const Peers &peers, ReduceOp op, int64_t n, Out out, cudaStream_t stream);

/// out[r] = input[indices[r]], rows of rowBytes bytes.
cudaError_t selectRows(const void *input, int64_t rowBytes, const int32_t *indices, int64_t rows, void *out,
                       cudaStream_t stream);

/// Copies rows of rowBytes bytes; row r starts at r times the stride, in bytes. The parts do not overlap.
cudaError_t copyRows2D(const void *source, int64_t sourceStride, void *out, int64_t outStride, int64_t rowBytes,
                       int64_t rows, cudaStream_t stream);

/// A number, for the host to see when the stream has come so far: `to` is memory of the host that the device can use.
cudaError_t store(uint32_t *to, uint32_t value, cudaStream_t stream);

/// docs/plan-format.md, TopCandidates: logits [rows, width] in f32 -> out [rows, count + 2, 2], as in Cpu.h. count is
/// at most maxCandidates. `best` may hold the largest logit of each of bestCount parts of every row, as MatrixStage of
/// CudaStage.h leaves them, [rows, bestCount]: then a greedy row reads these alone.
inline constexpr int64_t maxCandidates = 16384;
cudaError_t topCandidates(const float *logits, int64_t rows, int64_t width, int64_t valid, int64_t firstId,
                          int64_t count, const SamplingRow *sampling, float *out, cudaStream_t stream,
                          const uint64_t *best = nullptr, int64_t bestCount = 0);

/// docs/plan-format.md, Sample: candidates [shards * rows, count + 2, 2] -> ids [rows], as in Cpu.h. At most maxShards.
inline constexpr int64_t maxShards = 128;
cudaError_t sample(const float *candidates, int64_t shards, int64_t rows, int64_t count, const SamplingRow *sampling,
                   int32_t *ids, cudaStream_t stream);

/// out[i] = in[i] in out's type.
cudaError_t convert(In in, int64_t n, Out out, cudaStream_t stream);

/// Blocks of a quantized type at any address (WeightType.h). n is a number of whole ones.
cudaError_t dequantize(WeightType type, const void *source, int64_t n, Out out, cudaStream_t stream);

/// Reads `bytes` at `data` (both multiples of 16) once, by plain 16-byte loads or by bulk copies into shared memory
/// (the tensor memory accelerator): the bandwidths to hold others against. Each 16 bytes add the exclusive or of their
/// four words to *sum, if there is one.
cudaError_t readAll(const void *data, size_t bytes, cudaStream_t stream, uint32_t *sum = nullptr);
cudaError_t readAllByCopies(const void *data, size_t bytes, cudaStream_t stream, uint32_t *sum = nullptr);

/// cudaSuccess if the kernels were compiled for the current device, cudaErrorNoKernelImageForDevice if not.
cudaError_t hasCode();

enum class Init : uint8_t { Uniform, Ones, Zeros };

/// Rows of n elements: row r is elements from + r * fromStride and on of the tensor of that key, the values of
/// runtime/plan/RandomWeights.h, and goes to out + r * outStride.
cudaError_t randomWeights(Init init, float scale, uint64_t key, uint64_t from, uint64_t fromStride, int64_t rows,
                          int64_t n, Out out, int64_t outStride, cudaStream_t stream);
/// One row.
inline cudaError_t randomWeights(Init init, float scale, uint64_t key, uint64_t from, int64_t n, Out out,
                                 cudaStream_t stream) {
  return randomWeights(init, scale, key, from, 0, 1, n, out, 0, stream);
}

} // namespace distc::cuda
