// What the benchmarks of CUDA kernels share: operands that do not fit the cache, and the time of a kernel over them.
#pragma once

#include "bench/kernels_cuda/Check.h"
#include "distc/kernels/Cuda.h"

#include <functional>
#include <string>
#include <vector>

namespace distc::bench {

using cuda::Type;

/// Device memory.
template <class T> class Array {
public:
  explicit Array(size_t n) { CHECK(cudaMalloc(&memory, n * sizeof(T))); }
  explicit Array(const std::vector<T> &values) : Array(values.size()) {
    CHECK(cudaMemcpy(memory, values.data(), values.size() * sizeof(T), cudaMemcpyDefault));
  }
  ~Array() { CHECK(cudaFree(memory)); }
  Array(const Array &) = delete;
  operator T *() const { return static_cast<T *>(memory); }

private:
  void *memory = nullptr;
};

/// What all kernels stream from: larger than the cache. Random values in bf16.
struct Pool {
  static constexpr size_t bytes = size_t(4) << 30;
  Array<char> memory{bytes};
  size_t position = 0;

  Pool();
  /// Successive pieces, from the start again at the end.
  char *next(size_t size);
  /// Values in bf16.
  cuda::In in(int64_t n) { return {next(size_t(n) * 2), Type::BF16}; }
  cuda::Out out(int64_t n) { return {next(size_t(n) * 2), Type::BF16}; }
};

/// Decode of sequences of one length, a row each; or prefill of one, whose every token is a row.
struct Batch {
  Batch(int64_t context, int64_t sequences, bool prefill = false);
  static constexpr int64_t blockTokens = 16;
  int64_t rows, blocks;
  cuda::BatchView view;

private:
  Array<int32_t> device;
};

/// Routes of tokens to `count` experts each: neighbours, as spread out as can be.
std::vector<float> spreadRoutes(int64_t tokens, int64_t count, int64_t experts);

struct Bench {
  Pool pool;
  cudaStream_t stream;
  int sms = 0;
  double limit = 0;   // bytes per second of plain reads
  std::string wanted; // a part of the names that are

  explicit Bench(std::string wanted);

  /// Median seconds of one call of `kernel`, which moves `bytes`.
  double seconds(double bytes, const std::function<cudaError_t()> &kernel) const;
  bool wants(const std::string &name) const { return name.find(wanted) != std::string::npos; }
  void report(const std::string &name, double bytes, const std::function<cudaError_t()> &kernel) const;
  /// The share is of 786 TFLOP/s, what the library's products of bf16 reach on an H100 at best.
  void reportRate(const std::string &name, double bytes, double operations,
                  const std::function<cudaError_t()> &kernel) const;
};
inline constexpr double peakOperations = 786e12;

void products(Bench &bench);
void stages(Bench &bench);
void attention(Bench &bench);
void rowOps(Bench &bench);
/// A row for each length and number of devices, 2, 4, …; nothing where there are no two devices that can use each
/// other's memory.
void allReduces();

} // namespace distc::bench
