// Products of tensor cores by a warp group (wgmma, PTX ISA 8.0): d [64, N] += a [64, 16] b [16, N]. Thread t of the
// group has rows t / 32 * 16 + t % 32 / 4 and 8 below; d[4 j + 2 i + e] is column 8 j + 2 (t % 4) + e of the i-th of
// them. Operands in shared memory lie in rows of 128 bytes, 64 elements, whose 16-byte pieces are swizzled: piece c of
// row r is at c ^ r % 8. Eight such rows are an atom, which starts at a multiple of 1024 bytes.
#pragma once

#include "kernels/cuda/Hopper.cuh"

namespace distc::cuda {

/// How an operand lies in shared memory, as the tensor cores read it.
struct Operand {
  uint64_t bits;
};
/// Rows of the operand are rows of d (or columns, for b), their elements are what is summed over; the next 16 of those
/// lie 32 bytes on. Atoms lie `atomBytes` from each other, a multiple of 1024.
__device__ inline Operand operandOf(uint32_t address, int atomBytes = 1024) {
  return {uint64_t((address & 0x3FFFF) >> 4) | uint64_t(1) << 16 | uint64_t(atomBytes >> 4) << 32 | uint64_t(1) << 62};
}
/// b as it is: its rows are what is summed over, their elements columns of d; 64 columns further lie `panelBytes` on,
/// the next 16 rows 2048 bytes on.
__device__ inline Operand rowsOperandOf(uint32_t address, int panelBytes) {
  return {uint64_t((address & 0x3FFFF) >> 4) | uint64_t(panelBytes >> 4) << 16 | uint64_t(1024 >> 4) << 32 |
          uint64_t(1) << 62};
}

/// The operand so many bytes (a multiple of 16) on in shared memory. To make it anew takes a chain of instructions, for
/// which short products would wait.
__device__ inline Operand further(Operand operand, int bytes) { return {operand.bits + unsigned(bytes >> 4)}; }

/// Before products whose registers were written by ordinary instructions.
__device__ inline void beginProducts() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ inline void commitProducts() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
/// Waits for all products but those of the last N commits.
template <int N> __device__ inline void waitProducts() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(N) : "memory");
}
/// Keeps uses of registers behind a wait.
template <int N> __device__ inline void settle(float (&d)[N]) {
#pragma unroll
  for (int i = 0; i < N; ++i)
    asm volatile("" : "+f"(d[i])::"memory");
}

// clang-format off
#define DISTC_D4(i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define DISTC_D8(i) DISTC_D4(i), DISTC_D4(i + 4)
#define DISTC_R0 "%0, %1, %2, %3, %4, %5, %6, %7"
#define DISTC_R8 "%8, %9, %10, %11, %12, %13, %14, %15"
#define DISTC_R16 "%16, %17, %18, %19, %20, %21, %22, %23"
#define DISTC_R24 "%24, %25, %26, %27, %28, %29, %30, %31"
#define DISTC_R32 "%32, %33, %34, %35, %36, %37, %38, %39"
#define DISTC_R40 "%40, %41, %42, %43, %44, %45, %46, %47"
#define DISTC_R48 "%48, %49, %50, %51, %52, %53, %54, %55"
#define DISTC_R56 "%56, %57, %58, %59, %60, %61, %62, %63"
#define DISTC_R64 "%64, %65, %66, %67, %68, %69, %70, %71"
#define DISTC_R72 "%72, %73, %74, %75, %76, %77, %78, %79"
#define DISTC_R80 "%80, %81, %82, %83, %84, %85, %86, %87"
#define DISTC_R88 "%88, %89, %90, %91, %92, %93, %94, %95"
#define DISTC_R96 "%96, %97, %98, %99, %100, %101, %102, %103"
#define DISTC_R104 "%104, %105, %106, %107, %108, %109, %110, %111"
#define DISTC_R112 "%112, %113, %114, %115, %116, %117, %118, %119"
#define DISTC_R120 "%120, %121, %122, %123, %124, %125, %126, %127"
#define DISTC_D_16 DISTC_D8(0)
#define DISTC_D_32 DISTC_D_16, DISTC_D8(8)
#define DISTC_D_48 DISTC_D_32, DISTC_D8(16)
#define DISTC_D_64 DISTC_D_48, DISTC_D8(24)
#define DISTC_D_80 DISTC_D_64, DISTC_D8(32)
#define DISTC_D_96 DISTC_D_80, DISTC_D8(40)
#define DISTC_D_112 DISTC_D_96, DISTC_D8(48)
#define DISTC_D_128 DISTC_D_112, DISTC_D8(56)
#define DISTC_D_144 DISTC_D_128, DISTC_D8(64)
#define DISTC_D_160 DISTC_D_144, DISTC_D8(72)
#define DISTC_D_192 DISTC_D_160, DISTC_D8(80), DISTC_D8(88)
#define DISTC_D_224 DISTC_D_192, DISTC_D8(96), DISTC_D8(104)
#define DISTC_D_256 DISTC_D_224, DISTC_D8(112), DISTC_D8(120)
#define DISTC_N_16 DISTC_R0
#define DISTC_N_32 DISTC_N_16 ", " DISTC_R8
#define DISTC_N_48 DISTC_N_32 ", " DISTC_R16
#define DISTC_N_64 DISTC_N_48 ", " DISTC_R24
#define DISTC_N_80 DISTC_N_64 ", " DISTC_R32
#define DISTC_N_96 DISTC_N_80 ", " DISTC_R40
#define DISTC_N_112 DISTC_N_96 ", " DISTC_R48
#define DISTC_N_128 DISTC_N_112 ", " DISTC_R56
#define DISTC_N_144 DISTC_N_128 ", " DISTC_R64
#define DISTC_N_160 DISTC_N_144 ", " DISTC_R72
#define DISTC_N_192 DISTC_N_160 ", " DISTC_R80 ", " DISTC_R88
#define DISTC_N_224 DISTC_N_192 ", " DISTC_R96 ", " DISTC_R104
#define DISTC_N_256 DISTC_N_224 ", " DISTC_R112 ", " DISTC_R120
// p: the number of the first operand behind d.
#define DISTC_SHARED_SHARED(N, TYPE, A, B, P)                                                                          \
  asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" P ", 0;\n"                                                        \
               "wgmma.mma_async.sync.aligned.m64n" #N "k16.f32." TYPE "." TYPE " {" DISTC_N_##N "}, %" A ", %" B       \
               ", p, 1, 1, 0, 0;\n}"                                                                                   \
               : DISTC_D_##N : "l"(a.bits), "l"(b.bits), "r"(int(add)))
#define DISTC_REGISTERS_ROWS(N, TYPE, A0, A1, A2, A3, B)                                                               \
  asm volatile("{\n.reg .pred p;\nsetp.eq.u32 p, 0, 0;\n"                                                             \
               "wgmma.mma_async.sync.aligned.m64n" #N "k16.f32." TYPE "." TYPE " {" DISTC_N_##N "}, {%" A0 ", %" A1    \
               ", %" A2 ", %" A3 "}, %" B ", p, 1, 1, 1;\n}"                                                           \
               : DISTC_D_##N : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b.bits))
// clang-format on

/// a and b by operandOf; d is the first N / 2 elements. Without `add`, it is overwritten.
template <class T, int N, int Size> __device__ inline void multiply(float (&d)[Size], Operand a, Operand b, bool add) {
  static_assert(Size >= N / 2);
  constexpr bool isBf16 = std::is_same_v<T, __nv_bfloat16>;
  // clang-format off
  if constexpr (N == 16) { if constexpr (isBf16) DISTC_SHARED_SHARED(16, "bf16", "8", "9", "10"); else DISTC_SHARED_SHARED(16, "f16", "8", "9", "10"); }
  else if constexpr (N == 32) { if constexpr (isBf16) DISTC_SHARED_SHARED(32, "bf16", "16", "17", "18"); else DISTC_SHARED_SHARED(32, "f16", "16", "17", "18"); }
  else if constexpr (N == 48) { if constexpr (isBf16) DISTC_SHARED_SHARED(48, "bf16", "24", "25", "26"); else DISTC_SHARED_SHARED(48, "f16", "24", "25", "26"); }
  else if constexpr (N == 64) { if constexpr (isBf16) DISTC_SHARED_SHARED(64, "bf16", "32", "33", "34"); else DISTC_SHARED_SHARED(64, "f16", "32", "33", "34"); }
  else if constexpr (N == 80) { if constexpr (isBf16) DISTC_SHARED_SHARED(80, "bf16", "40", "41", "42"); else DISTC_SHARED_SHARED(80, "f16", "40", "41", "42"); }
  else if constexpr (N == 96) { if constexpr (isBf16) DISTC_SHARED_SHARED(96, "bf16", "48", "49", "50"); else DISTC_SHARED_SHARED(96, "f16", "48", "49", "50"); }
  else if constexpr (N == 112) { if constexpr (isBf16) DISTC_SHARED_SHARED(112, "bf16", "56", "57", "58"); else DISTC_SHARED_SHARED(112, "f16", "56", "57", "58"); }
  else if constexpr (N == 128) { if constexpr (isBf16) DISTC_SHARED_SHARED(128, "bf16", "64", "65", "66"); else DISTC_SHARED_SHARED(128, "f16", "64", "65", "66"); }
  else if constexpr (N == 144) { if constexpr (isBf16) DISTC_SHARED_SHARED(144, "bf16", "72", "73", "74"); else DISTC_SHARED_SHARED(144, "f16", "72", "73", "74"); }
  else if constexpr (N == 160) { if constexpr (isBf16) DISTC_SHARED_SHARED(160, "bf16", "80", "81", "82"); else DISTC_SHARED_SHARED(160, "f16", "80", "81", "82"); }
  else if constexpr (N == 192) { if constexpr (isBf16) DISTC_SHARED_SHARED(192, "bf16", "96", "97", "98"); else DISTC_SHARED_SHARED(192, "f16", "96", "97", "98"); }
  else if constexpr (N == 224) { if constexpr (isBf16) DISTC_SHARED_SHARED(224, "bf16", "112", "113", "114"); else DISTC_SHARED_SHARED(224, "f16", "112", "113", "114"); }
  else if constexpr (N == 256) { if constexpr (isBf16) DISTC_SHARED_SHARED(256, "bf16", "128", "129", "130"); else DISTC_SHARED_SHARED(256, "f16", "128", "129", "130"); }
  // clang-format on
}

/// a in registers: the elements of an earlier d as pairs, those of columns 8 j in the two rows, then of 8 j + 8. b by
/// rowsOperandOf.
template <class T, int N> __device__ inline void multiplyRows(float (&d)[N / 2], const uint32_t (&a)[4], Operand b) {
  constexpr bool isBf16 = std::is_same_v<T, __nv_bfloat16>;
  // clang-format off
  if constexpr (N == 64) { if constexpr (isBf16) DISTC_REGISTERS_ROWS(64, "bf16", "32", "33", "34", "35", "36"); else DISTC_REGISTERS_ROWS(64, "f16", "32", "33", "34", "35", "36"); }
  else if constexpr (N == 128) { if constexpr (isBf16) DISTC_REGISTERS_ROWS(128, "bf16", "64", "65", "66", "67", "68"); else DISTC_REGISTERS_ROWS(128, "f16", "64", "65", "66", "67", "68"); }
  else if constexpr (N == 256) { if constexpr (isBf16) DISTC_REGISTERS_ROWS(256, "bf16", "128", "129", "130", "131", "132"); else DISTC_REGISTERS_ROWS(256, "f16", "128", "129", "130", "131", "132"); }
  // clang-format on
}

/// Four 8 x 8 matrices of 16-bit elements as a warp has them in d, to shared memory transposed: lane i gives the
/// address of what column i % 8 of matrix i / 8 becomes, 16 bytes.
__device__ inline void storeTransposed(uint32_t to, const uint32_t (&w)[4]) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(to), "r"(w[0]), "r"(w[1]),
               "r"(w[2]), "r"(w[3])
               : "memory");
}
/// The same as they are: row i % 8 of matrix i / 8.
__device__ inline void storeMatrices(uint32_t to, const uint32_t (&w)[4]) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(to), "r"(w[0]), "r"(w[1]),
               "r"(w[2]), "r"(w[3])
               : "memory");
}

} // namespace distc::cuda
