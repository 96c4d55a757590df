// What the card can do at most, to hold a kernel's figures against.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>

namespace distc::bench {

/// Reads `bytes` at `data` (both multiples of 16) once by plain 16-byte loads.
cudaError_t readAll(const void *data, size_t bytes, cudaStream_t stream);

} // namespace distc::bench
