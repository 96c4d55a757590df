#include "kernels/cuda/Builtins.h"

#include "kernels/cuda/ReadAll.cu"
