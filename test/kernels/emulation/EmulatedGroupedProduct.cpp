#include "kernels/cuda/Builtins.h"

#include "kernels/cuda/GroupedProduct.cu"
