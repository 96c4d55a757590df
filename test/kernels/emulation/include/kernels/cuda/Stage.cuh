// kernels/cuda/Stage.cuh for emulation: the same functions over Emulator.h.
#pragma once

#include "kernels/cuda/Hopper.cuh"

namespace distc::cuda {

inline uint64_t evictFirst() { return 0; }

inline void copyBox(uint32_t to, const void *map, int row, int block, uint64_t *barrier, uint64_t) {
  emulation::copyBox(to, map, block * 64, row, barrier);
}
inline void prefetchBox(const void *map, int row, int block) { emulation::checkBox(map, block * 64, row); }
inline void copyBytes(uint32_t to, const void *from, uint32_t bytes, uint64_t *barrier) {
  emulation::copyLater([=] { std::memcpy(emulation::sharedPointer(to, 16), from, bytes); }, barrier, bytes);
}
inline void prefetchBytes(const void *, uint32_t) {}
inline uint4 loadShared16(uint32_t address) {
  uint4 v;
  std::memcpy(&v, emulation::sharedPointer(address, 16), sizeof(v));
  return v;
}
inline void storeShared16(uint32_t address, uint4 v) {
  std::memcpy(emulation::sharedPointer(address, 16), &v, sizeof(v));
}
inline void endCopies() { emulation::endCopies(); }
template <int Left> void waitCopies() { emulation::waitCopies(Left); }
inline uint4 loadFresh16(const void *p) {
  emulation::needPrevious();
  uint4 v;
  std::memcpy(&v, p, sizeof(v));
  return v;
}
template <class T> T loadFresh(const T *p) {
  emulation::needPrevious();
  return *p;
}

inline uint4 loadTransposed(uint32_t address) {
  struct Both {
    uint32_t address;
    uint32_t result[4];
  } both{address, {}};
  emulation::meetWarp("ldmatrix", &both, [](std::span<void *const> lanes) {
    for (size_t lane = 0; lane < lanes.size(); ++lane)
      for (size_t m = 0; m < 4; ++m)
        for (size_t half = 0; half < 2; ++half) {
          const uint32_t row = static_cast<Both *>(lanes[m * 8 + lane % 4 * 2 + half])->address;
          uint16_t element;
          std::memcpy(&element, emulation::sharedPointer(row) + lane / 4 * 2, sizeof(element));
          static_cast<Both *>(lanes[lane])->result[m] |= uint32_t(element) << (16 * half);
        }
  });
  return {both.result[0], both.result[1], both.result[2], both.result[3]};
}

/// c += a b of the warp, in float.
template <class T>
void multiply(float (&c)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0, uint32_t b1) {
  struct Given {
    uint32_t a[4], b[2];
    float *c;
  } mine{{a0, a1, a2, a3}, {b0, b1}, c};
  emulation::meetWarp("mma", &mine, [](std::span<void *const> lanes) {
    float a[16][16], b[16][8];
    for (int lane = 0; lane < emulation::lanes; ++lane) {
      const Given &given = *static_cast<Given *>(lanes[size_t(lane)]);
      const int group = lane / 4, quad = lane % 4;
      for (int i = 0; i < 4; ++i) {
        const float2 v = Pair<T>::toFloats(given.a[i]);
        a[group + i % 2 * 8][quad * 2 + i / 2 * 8] = v.x;
        a[group + i % 2 * 8][quad * 2 + i / 2 * 8 + 1] = v.y;
      }
      for (int i = 0; i < 2; ++i) {
        const float2 v = Pair<T>::toFloats(given.b[i]);
        b[quad * 2 + i * 8][group] = v.x;
        b[quad * 2 + i * 8 + 1][group] = v.y;
      }
    }
    for (int lane = 0; lane < emulation::lanes; ++lane)
      for (int i = 0; i < 4; ++i)
        for (int k = 0; k < 16; ++k)
          static_cast<Given *>(lanes[size_t(lane)])->c[i] += a[lane / 4 + i / 2 * 8][k] * b[k][lane % 4 * 2 + i % 2];
  });
}

template <auto Kernel> cudaError_t prepareStage(int) { return cudaSuccess; }

} // namespace distc::cuda
