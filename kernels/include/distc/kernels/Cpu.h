// CPU kernels of the plan's instructions. Raw pointers, sizes, ranges of work; no state, no allocation, no threads: the
// caller splits the stated range over threads; a call takes up to 512 KiB of stack. SIMD by Highway with run-time
// dispatch.
//
// Row invariance: the result of one row does not depend on how many rows, or which range, a call covers; blocking and
// summation order depend on the weight's shape alone. Inputs and outputs are f32 and dense [rows, width] unless said.
#pragma once

#include "distc/kernels/Sampling.h"
#include "distc/kernels/WeightType.h"

#include <cstdint>

namespace distc::cpu {

using distc::SamplingRow;
using distc::WeightType;

/// A row-major matrix; row n starts at data + n * rowStride elements. `data` is aligned to its element only, that of
/// quantized types not at all; their cols and rowStride are multiples of the block.
struct Matrix {
  const void *data;
  WeightType type;
  int64_t rows;
  int64_t cols;
  int64_t rowStride;
};

/// y[t * yStride + n] = sum_k x[t * w.cols + k] * w[n, k] + (bias ? bias[n] : 0), n in [rowBegin, rowEnd), t in [0,
/// tokens).
void linear(const float *x, int64_t tokens, const Matrix &w, const float *bias, float *y, int64_t yStride,
            int64_t rowBegin, int64_t rowEnd);

/// The same, to the bit, of some rows alone: for each i of items[0, count) y[i * yStride + n] = sum_k x[i / repeat *
/// w.cols + k] * w[n, k]. repeat: so many items after each other read one row of x.
void linearOf(const int32_t *items, int64_t count, const float *x, int64_t repeat, const Matrix &w, float *y,
              int64_t yStride, int64_t rowBegin, int64_t rowEnd);

/// docs/plan-format.md, Route: logits [rows, experts] -> routes [rows, count, 2], count <= experts. A NaN counts as
/// -inf, so that ids are always distinct and below `experts`. t in [rowBegin, rowEnd).
void route(const float *logits, int64_t experts, int64_t count, bool normalize, float *routes, int64_t rowBegin,
           int64_t rowEnd);

/// Sorts the places of routes [places, 2] by expert: those of expert e are order[starts[e]] … order[starts[e + 1] - 1],
/// ascending. order [places], starts [experts + 1].
void groupByExpert(const float *routes, int64_t places, int64_t experts, int32_t *order, int32_t *starts);

/// y[t] = sum_j routes[t, j, 0] * x[t, j], in the order of j; x [rows, count, width], t in [rowBegin, rowEnd).
void combine(const float *x, const float *routes, int64_t count, int64_t width, float *y, int64_t rowBegin,
             int64_t rowEnd);

/// y[t] = x[t] * rsqrt(mean(x[t]^2) + eps) * (weight + weightOffset), t in [rowBegin, rowEnd). y may be x.
void rmsNorm(const float *x, const float *weight, float eps, int64_t width, float *y, int64_t rowBegin, int64_t rowEnd,
             float weightOffset = 0);

/// The sums that the mean is made of, where x[t] is a part of a row: out[t * outStride] = sum_i x[t, i]^2.
void squareSum(const float *x, int64_t width, float *out, int64_t outStride, int64_t rowBegin, int64_t rowEnd);

/// Sums of squares of rows of `elements` elements; row t's is data[t * stride].
struct Squares {
  const float *data;
  int64_t stride;
  int64_t elements;
};
/// rmsNorm of parts of rows, from the sums of the whole.
void rmsNormOfParts(const float *x, const Squares &squares, const float *weight, float eps, int64_t width, float *y,
                    int64_t rowBegin, int64_t rowEnd, float weightOffset = 0);

/// y[t] = (x[t] - mean) * rsqrt(mean((x[t] - mean)^2) + eps) * weight + bias, mean over x[t]; bias may be null; t in
/// [rowBegin, rowEnd). y may be x.
void layerNorm(const float *x, const float *weight, const float *bias, float eps, int64_t width, float *y,
               int64_t rowBegin, int64_t rowEnd);

/// y[t, :] = table[tokens[t] - firstRow, :] as f32, zeros where that is not a row of the table; t in [rowBegin,
/// rowEnd).
void embedding(const int32_t *tokens, const Matrix &table, int64_t firstRow, float *y, int64_t rowBegin,
               int64_t rowEnd);

/// y[t, :] = x[t, :] + table[positions[t], :], t in [rowBegin, rowEnd). y may be x.
void positionEmbedding(const float *x, const int32_t *positions, const Matrix &table, float *y, int64_t rowBegin,
                       int64_t rowEnd);

enum class RopeStyle : uint8_t { Half, Interleaved };

/// Rotates the first `rotated` elements of each of `heads` heads of row t by the angles of row positions[t] of cosSin,
/// and copies the others; cosSin is [positions, rotated/2] pairs, cos first: cosSin[(p * rotated/2 + i) * 2 + {0, 1}].
/// y may be x. t in [rowBegin, rowEnd).
void rope(const float *x, const int32_t *positions, const float *cosSin, int64_t heads, int64_t headDim,
          int64_t rotated, RopeStyle style, float *y, int64_t rowBegin, int64_t rowEnd);

/// One layer's cache: [blocks, 2, heads, blockTokens, headDim] f32.
struct KvView {
  float *data;
  int64_t heads;
  int64_t blockTokens;
  int64_t headDim;
};

/// Writes k[t], v[t] ([heads, headDim] each) at position positions[t] of block table row `blockTables + sequenceOf[t] *
/// blocksPerSequence`; t in [rowBegin, rowEnd).
void kvAppend(const float *k, const float *v, const KvView &cache, const int32_t *blockTables,
              int64_t blocksPerSequence, const int32_t *sequenceOf, const int32_t *positions, int64_t rowBegin,
              int64_t rowEnd);

struct AttentionParams {
  int64_t heads; // query heads; query head h reads KV head h / (heads / cache.heads)
  float scale;
  int64_t window; // 0: all positions; w: the last w
  float softCap;  // 0: none
};

/// out[t, h] = softmax(scale * q[t, h] . K[0..p]) V[0..p] with p = positions[t], for items i in [begin, end),
/// i = t * cache.heads + kvHead: all query heads of one KV head at one token. q and out are [tokens, heads, headDim].
/// One pass over the blocks (online softmax), in the order of positions. headDim is any multiple of 2 up to 256.
void attention(const float *q, const KvView &cache, const AttentionParams &params, const int32_t *blockTables,
               int64_t blocksPerSequence, const int32_t *sequenceOf, const int32_t *positions, float *out,
               int64_t begin, int64_t end);

/// out[i] = a[i] + b[i], i in [begin, end). out may be a or b.
void add(const float *a, const float *b, float *out, int64_t begin, int64_t end);

/// out[i] = input[i] * factor, i in [begin, end). out may be input.
void scale(const float *input, float factor, float *out, int64_t begin, int64_t end);

/// out[i] = cap * tanh(input[i] / cap), i in [begin, end), cap > 0. out may be input. Within 1e-6 relative.
void softCap(const float *input, float cap, float *out, int64_t begin, int64_t end);

enum class Activation : uint8_t { Silu, Gelu, GeluTanh, Relu };

/// out[i] = activation(gate[i]) * up[i], i in [begin, end); up null: activation(gate[i]). out may be gate or up. Within
/// 4 ulp-ish (1e-6 relative) of the double-precision value.
void glu(const float *gate, const float *up, Activation activation, float *out, int64_t begin, int64_t end);

/// sum[i] += x[i], i in [begin, end): the step of an all-reduce.
void accumulate(const float *x, float *sum, int64_t begin, int64_t end);

/// docs/plan-format.md, TopCandidates: logits [rows, width] (columns >= valid are not read), out [rows, count + 2, 2],
/// r in [rowBegin, rowEnd). A NaN counts as -inf. firstId + valid <= 2^24, so that ids are exact in f32.
void topCandidates(const float *logits, int64_t width, int64_t valid, int64_t firstId, int64_t count,
                   const SamplingRow *sampling, float *out, int64_t rowBegin, int64_t rowEnd);

/// docs/plan-format.md, Sample: candidates [shards * rows, count + 2, 2] -> ids [rows]. If no logit is finite, the
/// greedy choice; if there is no candidate at all, 0.
void sample(const float *candidates, int64_t shards, int64_t rows, int64_t count, const SamplingRow *sampling,
            int32_t *ids);

/// Conversion to f32: n elements, of quantized types whole blocks.
void toF32(const void *source, WeightType type, float *out, int64_t n);
/// The same of quantized types alone.
void dequantize(const void *source, WeightType type, float *out, int64_t n);

/// Name of the instruction set that run-time dispatch chose, e.g. "AVX3".
const char *simdTarget();

} // namespace distc::cpu
