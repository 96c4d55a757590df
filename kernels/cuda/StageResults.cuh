// What becomes of a matrix stage's sums (MatrixStage.cu, WideStage.cu): bias, factor, residual, activation, rotation,
// the cache, the largest.
#pragma once

#include "kernels/cuda/Activate.cuh"
#include "kernels/cuda/Candidate.cuh"
#include "kernels/cuda/StageProducer.cuh"

namespace distc::cuda {

/// What a result needs besides its sums; loaded ahead of them.
struct Operands {
  float a = 0, b = 0; // bias and residual; cosine and sine
  int64_t slot = 0;   // Qkv: where the element lies in the cache
};

/// raw + addend, rounded.
template <class T> __device__ inline void addPairs(uint32_t (&raw)[4], uint4 addend) {
  const uint32_t words[4] = {addend.x, addend.y, addend.z, addend.w};
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    const float2 a = Pair<T>::toFloats(raw[j]), b = Pair<T>::toFloats(words[j]);
    raw[j] = Pair<T>::fromFloats(a.x + b.x, a.y + b.y);
  }
}
/// raw * norm, rounded; adds the squares of raw.
template <class T> __device__ inline void weigh(uint32_t (&raw)[4], const float (&norm)[packElements], float &squares) {
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    const float2 v = Pair<T>::toFloats(raw[j]);
    squares = fmaf(v.x, v.x, squares);
    squares = fmaf(v.y, v.y, squares);
    raw[j] = Pair<T>::fromFloats(v.x * norm[2 * j], v.y * norm[2 * j + 1]);
  }
}

/// Of `Parts` sums each, which stand in shared memory: [tile][part][token][row of the tile].
template <class T, StageForm Form, Prologue P, int Parts> class StageResults {
protected:
  static constexpr bool withNorm = P != Prologue::None, withScale = withNorm && !isLayerNorm(P);
  static constexpr bool mayKeepBest = Form == StageForm::Rows || Form == StageForm::Activated;
  static constexpr bool ofRows = mayKeepBest || Form == StageForm::ExpertSum;
  static constexpr int results = ofRows ? tileRows : groupRows; // of a tile

  // Of numbers in F16, whose range is small, a part in 16 is multiplied; an exact factor.
  static constexpr float inputScale = std::is_same_v<T, __half> && withScale ? 1.0f / 16 : 1.0f;

  __device__ StageResults(const MatrixStage &s, const StageInput &in, const StageExperts *experts,
                          StageOutcome &outcome, float *scratch)
      : s(s), in(in), experts(experts), outcome(outcome), scratch(scratch), lane(threadIdx.x % warpSize) {}

  /// Of a weight's row and a token.
  __device__ float sumOf(int tile, int token, int row) const {
    const float *from = scratch + (tile * Parts * in.tokens + token) * tileRows + row;
    float sum = 0;
#pragma unroll
    for (int part = 0; part < Parts; ++part)
      sum += from[part * in.tokens * tileRows];
    return sum;
  }
  /// 1 / RMS of a token, from the sum of its squares.
  __device__ void setScale(int token, float squares) const {
    outcome.scales[token] = rsqrtf(squares / float(s.cols) + s.eps) * (1.0f / inputScale);
  }
  __device__ float scaleOf(int token) const { return withScale ? outcome.scales[token] : 1.0f; }

  /// Whether tile `tile` of the pass has a result `at`.
  __device__ bool exists(int tile, int at) const {
    if (tile >= count)
      return false;
    const StageTile &t = tiles[tile];
    if constexpr (ofRows)
      return at < t.results;
    return Form == StageForm::Qkv && s.style == RopeStyle::Interleaved ? 2 * at < t.n0 + t.n1 : at < t.n0;
  }

  /// Of a result that exists, for a token.
  __device__ Operands operandsOf(int i, int token, int at) const {
    Operands o;
    const StageTile &t = tiles[i];
    const StageWeight &w = s.weights[t.w0];
    if constexpr (ofRows) {
      const int row = t.r0 + at;
      if (w.bias.data)
        o.a = static_cast<const float *>(w.bias.data)[row];
      if (Form != StageForm::Activated && w.residual.data) // fresh: it may be what a stage before has written
        o.b = toFloat(loadFresh(static_cast<const T *>(w.residual.data) + token * w.yStride + row));
    } else if constexpr (Form == StageForm::Glu) {
      if (w.bias.data)
        o.a = static_cast<const float *>(w.bias.data)[t.r0 + at];
      if (s.weights[1].bias.data)
        o.b = static_cast<const float *>(s.weights[1].bias.data)[t.r0 + at];
    } else if constexpr (Form == StageForm::Qkv) {
      const int position = in.batch.positions[token];
      if (t.w0 < 2) {
        const int half = s.headDim / 2;
        const int pair = s.style == RopeStyle::Half ? (t.r0 + at) % s.headDim : (t.r0 / 2 + at) % half;
        const float2 angle = reinterpret_cast<const float2 *>(s.cosSin)[int64_t(position) * half + pair];
        o.a = angle.x;
        o.b = angle.y;
      }
      if (t.w0 > 0) {
        const int64_t block =
            in.batch
                .blockTables[in.batch.sequenceOf[token] * in.batch.blocksPerSequence + position / s.cache.blockTokens];
        const int head = t.r0 / s.headDim;
        o.slot =
            (((block * 2 + (t.w0 - 1)) * s.cache.heads + head) * s.cache.blockTokens + position % s.cache.blockTokens) *
            s.cache.headDim;
      }
    }
    return o;
  }

  /// Finishes a result of tile i, the scratch having the sums of tile `begin` first. All lanes come here; those without
  /// one take part in shuffles alone.
  __device__ __forceinline__ void result(int i, int token, int at, bool valid, int begin, const Operands &o) {
    if constexpr (ofRows) {
      float y = 0;
      int row = 0;
      if (valid) {
        const StageTile &t = tiles[i];
        const StageWeight &w = s.weights[t.w0];
        row = t.r0 + at;
        y = sumOf(i - begin, token, at) * scaleOf(token) + o.a;
        if constexpr (Form == StageForm::Activated)
          y = s.softCap > 0 ? s.softCap * tanhf(y / s.softCap) : activated(y);
        else
          y = y * s.factor + o.b;
        storeElement(w.y, token * w.yStride + row, y);
      }
      if (mayKeepBest && s.best)
        keepBest(valid && row < s.valid, row, token, y);
    } else if (valid) {
      if constexpr (Form == StageForm::Glu) {
        const float scale = scaleOf(token);
        const float gate = sumOf(i - begin, token, at) * scale + o.a;
        const float up = sumOf(i - begin, token, groupRows + at) * scale + o.b;
        storeElement(s.weights[0].y, token * s.weights[0].yStride + tiles[i].r0 + at, activated(gate) * up);
      } else if constexpr (Form == StageForm::ExpertGlu) {
        const StageTile &t = tiles[i];
        const int place = experts->placeOf[t.chosen][token], row = t.r0 - experts->ids[t.chosen] * s.weights[0].rows;
        if (place >= 0)
          storeElement(s.weights[0].y, place * s.weights[0].yStride + row + at,
                       activated(sumOf(i - begin, token, at)) * sumOf(i - begin, token, groupRows + at));
      } else {
        rotated(tiles[i], i - begin, token, at, o);
      }
    }
  }

  __device__ float activated(float x) const {
    switch (s.activation) {
    case Activation::Silu:
      return activate<Activation::Silu>(x);
    case Activation::Gelu:
      return activate<Activation::Gelu>(x);
    case Activation::GeluTanh:
      return activate<Activation::GeluTanh>(x);
    default:
      return activate<Activation::Relu>(x);
    }
  }

  /// A pair of elements of a head of q, k or v.
  __device__ void rotated(const StageTile &t, int tile, int token, int at, const Operands &o) {
    const bool half = s.style == RopeStyle::Half;
    const int in0 = half ? at : 2 * at, in1 = half ? groupRows + at : 2 * at + 1; // rows of the tile
    const int row0 = t.r0 + in0, row1 = half ? t.r1 + at : row0 + 1;
    const StageWeight &w = s.weights[t.w0];
    const float scale = scaleOf(token);
    float a = sumOf(tile, token, in0) * scale, b = sumOf(tile, token, in1) * scale;
    if (w.bias.data) {
      a += static_cast<const float *>(w.bias.data)[row0];
      b += static_cast<const float *>(w.bias.data)[row1];
    }
    if (t.w0 < 2) {
      const float rotated = fmaf(a, o.a, -(b * o.b));
      b = fmaf(a, o.b, b * o.a);
      a = rotated;
    }
    T *to = t.w0 == 0 ? static_cast<T *>(w.y.data) + token * w.yStride
                      : static_cast<T *>(s.cache.data) + o.slot - int64_t(t.r0 / s.headDim) * s.headDim;
    to[row0] = fromFloat<T>(a);
    to[row1] = fromFloat<T>(b);
  }

  /// 16 lanes have results of one token, and whole tokens are in a half of the warp.
  __device__ void keepBest(bool valid, int column, int token, float y) {
    unsigned long long key = valid ? keyOf(column, isnan(y) ? -INFINITY : y) : 0;
#pragma unroll
    for (int offset = tileRows / 2; offset > 0; offset /= 2)
      key = max(key, __shfl_xor_sync(allLanes, key, offset));
    if (lane % tileRows == 0 && key > 0)
      atomicMax(&outcome.best[token], key);
  }

  const MatrixStage &s;
  const StageInput &in;
  const StageExperts *experts;
  StageOutcome &outcome;
  float *scratch;
  const int lane;
  // Of the pass:
  const StageTile *tiles = nullptr;
  int count = 0;
};

} // namespace distc::cuda
