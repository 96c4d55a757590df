#include "kernels/cuda/Builtins.h"

// Of the blocks one runs at a time.
#undef __shared__
#define __shared__ static

#include "kernels/cuda/ExpertTiles.cu"
#include "kernels/cuda/Experts.cu"
