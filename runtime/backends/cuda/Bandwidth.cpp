#include "runtime/backends/cuda/CudaBackend.h"

#include <algorithm>

namespace distc {

double cudaReadBandwidth() {
  constexpr size_t kBytes = size_t(1) << 30; // far larger than the L2 cache
  auto memory = cuda::Memory::allocate(cuda::Memory::Kind::Device, kBytes, "bandwidth");
  cudaEvent_t begin = nullptr, end = nullptr;
  double best = 0;
  if (memory.ok() && cudaEventCreate(&begin) == cudaSuccess && cudaEventCreate(&end) == cudaSuccess) {
    const std::byte *data = (*memory).data();
    // Zeros would be read from compressed memory faster than anything else.
    (void)cuda::randomWeights(cuda::Init::Uniform, 1.0f, 1, 0, kBytes / 4, {(*memory).data(), cuda::Type::F32},
                              nullptr);
    for (int pass = 0; pass < 6; ++pass) {
      float ms = 0;
      (void)cudaEventRecord(begin);
      (void)cuda::readAll(data, kBytes, nullptr);
      (void)cudaEventRecord(end);
      if (cudaEventSynchronize(end) == cudaSuccess && cudaEventElapsedTime(&ms, begin, end) == cudaSuccess && ms > 0)
        best = std::max(best, double(kBytes) / ms * 1e3);
    }
  }
  if (begin)
    (void)cudaEventDestroy(begin);
  if (end)
    (void)cudaEventDestroy(end);
  return best;
}

} // namespace distc
