// kernels/cuda/Wgmma.cuh for emulation: the elements of d are made from what is in shared memory when a thread of the
// warp group waits for them.
#pragma once

#include "kernels/cuda/Hopper.cuh"

namespace distc::cuda {

/// Rows of 128 bytes, swizzled; how far atoms of eight rows, or panels, are from each other.
struct Operand {
  uint32_t address;
  int stepBytes;
};
inline Operand operandOf(uint32_t address, int atomBytes = 1024) { return {address, atomBytes}; }
inline Operand rowsOperandOf(uint32_t address, int panelBytes) { return {address, panelBytes}; }
inline Operand further(Operand operand, int bytes) { return {operand.address + unsigned(bytes), operand.stepBytes}; }

inline void beginProducts() {}
inline void commitProducts() { emulation::commitProducts(); }
template <int N> void waitProducts() { emulation::waitProducts(N); }
template <int N> void settle(float (&)[N]) {}

template <class T> float operandAt(Operand operand, int row, int k) {
  const auto at = operand.address + uint32_t(row / 8 * operand.stepBytes + row % 8 * 128 + k * 2);
  T v;
  std::memcpy(&v, emulation::sharedPointer(at ^ (at >> 7 & 7) << 4), sizeof(v));
  return toFloat(v);
}

template <class T, int N, int Size> void multiply(float (&d)[Size], Operand a, Operand b, bool add) {
  static_assert(Size >= N / 2);
  const int thread = int(threadIdx.x) % warpGroup, row = thread / 32 * 16 + thread % 32 / 4, column = thread % 4 * 2;
  emulation::queueProduct([=, d = &d[0]] {
    float rows[2][16];
    for (int i = 0; i < 2; ++i)
      for (int k = 0; k < 16; ++k)
        rows[i][k] = operandAt<T>(a, row + 8 * i, k);
    for (int j = 0; j < N / 4; ++j) {
      float *out = d + j / 2 * 4 + j % 2;
      float sums[2] = {add ? out[0] : 0, add ? out[2] : 0};
      for (int k = 0; k < 16; ++k) {
        const float v = operandAt<T>(b, j / 2 * 8 + column + j % 2, k);
        sums[0] += rows[0][k] * v;
        sums[1] += rows[1][k] * v;
      }
      out[0] = sums[0];
      out[2] = sums[1];
    }
  });
}

template <class T, int N> void multiplyRows(float (&d)[N / 2], const uint32_t (&a)[4], Operand b) {
  struct Given {
    const uint32_t *words;
    float rows[2][16];
  } mine{a, {}};
  emulation::meetWarp("wgmma", &mine, [](std::span<void *const> lanes) { // a row's elements are in four lanes
    for (size_t lane = 0; lane < lanes.size(); ++lane)
      for (size_t from = 0; from < 4; ++from)
        for (size_t w = 0; w < 4; ++w) {
          const float2 v = Pair<T>::toFloats(static_cast<Given *>(lanes[lane / 4 * 4 + from])->words[w]);
          float *to = &static_cast<Given *>(lanes[lane])->rows[w % 2][w / 2 * 8 + from * 2];
          to[0] = v.x;
          to[1] = v.y;
        }
  });
  const int column = int(threadIdx.x) % 4 * 2;
  emulation::queueProduct([=, d = &d[0]] {
    for (int j = 0; j < N / 4; ++j) {
      float *out = d + j / 2 * 4 + j % 2;
      const int n = j / 2 * 8 + column + j % 2;
      for (int k = 0; k < 16; ++k) {
        const float v = operandAt<T>(operandOf(b.address + uint32_t(n / 64 * b.stepBytes)), k, n % 64);
        out[0] += mine.rows[0][k] * v;
        out[2] += mine.rows[1][k] * v;
      }
    }
  });
}

/// Element e of a lane's word: of which lane's row it is an element, and which.
template <class F> void storeElements(uint32_t to, const uint32_t (&w)[4], F placeOf) {
  struct Given {
    uint32_t to;
    const uint32_t *words;
  } mine{to, w};
  emulation::meetWarp("stmatrix", &mine, [&](std::span<void *const> lanes) {
    for (size_t lane = 0; lane < lanes.size(); ++lane)
      for (size_t m = 0; m < 4; ++m)
        for (size_t e = 0; e < 2; ++e) {
          const auto element = uint16_t(static_cast<Given *>(lanes[lane])->words[m] >> (16 * e));
          const auto [row, column] = placeOf(lane, e);
          const uint32_t at = static_cast<Given *>(lanes[m * 8 + row])->to;
          std::memcpy(emulation::sharedPointer(at, 16) + column * 2, &element, sizeof(element));
        }
  });
}
inline void storeMatrices(uint32_t to, const uint32_t (&w)[4]) {
  storeElements(to, w, [](size_t lane, size_t e) { return std::pair(lane / 4, lane % 4 * 2 + e); });
}
inline void storeTransposed(uint32_t to, const uint32_t (&w)[4]) {
  storeElements(to, w, [](size_t lane, size_t e) { return std::pair(lane % 4 * 2 + e, lane / 4); });
}

} // namespace distc::cuda
