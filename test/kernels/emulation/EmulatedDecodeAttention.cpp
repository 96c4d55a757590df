#include "kernels/cuda/Builtins.h"

#include "kernels/cuda/DecodeAttention.cu"
