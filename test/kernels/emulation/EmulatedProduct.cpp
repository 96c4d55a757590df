#include "kernels/cuda/Builtins.h"

#include "kernels/cuda/Product.cu"
