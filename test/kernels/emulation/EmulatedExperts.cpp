#include "kernels/cuda/Builtins.h"

// Of the blocks one runs at a time.
#undef __shared__
#define __shared__ static

template <class... Parameters, class... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t *config, void (*kernel)(Parameters...),
                               Arguments &&...arguments) {
  return distc::emulation::launch(config->gridDim, int(config->blockDim.x), config->dynamicSmemBytes, 1,
                                  [&] { kernel(arguments...); });
}

#include "kernels/cuda/ExpertTiles.cu"
#include "kernels/cuda/Experts.cu"
