// kernels/cuda/Wgmma.cuh for emulation: the elements of d are made from what is in shared memory when a thread of the
// warp group waits for them.
#pragma once

#include "kernels/cuda/Hopper.cuh"

namespace distc::cuda {

/// The address is all that a descriptor says: rows of 128 bytes, swizzled.
inline uint64_t operandOf(uint32_t address) { return address; }

inline void beginProducts() {}
inline void commitProducts() { emulation::commitProducts(); }
template <int N> void waitProducts() { emulation::waitProducts(N); }
template <int N> void settle(float (&)[N]) {}

template <class T> float operandAt(uint64_t operand, int row, int k) {
  const auto at = uint32_t(operand) + uint32_t(row * 128 + k * 2);
  T v;
  std::memcpy(&v, emulation::sharedPointer(at ^ (at >> 7 & 7) << 4), sizeof(v));
  return toFloat(v);
}

template <class T, int N, int Size> void multiply(float (&d)[Size], uint64_t a, uint64_t b, bool add) {
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

template <class T> uint32_t pairOf(float low, float high) { return Pair<T>::fromFloats(low, high); }

inline void storeTransposed(uint32_t to, const uint32_t (&w)[4]) {
  struct Given {
    uint32_t to;
    const uint32_t *words;
  } mine{to, w};
  emulation::meetWarp("stmatrix", &mine, [](std::span<void *const> lanes) {
    for (size_t lane = 0; lane < lanes.size(); ++lane)
      for (size_t m = 0; m < 4; ++m)
        for (size_t half = 0; half < 2; ++half) {
          const auto element = uint16_t(static_cast<Given *>(lanes[lane])->words[m] >> (16 * half));
          const uint32_t row = static_cast<Given *>(lanes[m * 8 + lane % 4 * 2 + half])->to;
          std::memcpy(emulation::sharedPointer(row, 16) + lane / 4 * 2, &element, sizeof(element));
        }
  });
}

} // namespace distc::cuda
