// A call of CUDA that fails ends the benchmark.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdio>
#include <cstdlib>

namespace distc::bench {

inline void check(cudaError_t error, const char *what) {
  if (error == cudaSuccess)
    return;
  std::fprintf(stderr, "%s: %s\n", what, cudaGetErrorString(error));
  std::exit(1);
}

} // namespace distc::bench
#define CHECK(call) ::distc::bench::check(call, #call)
