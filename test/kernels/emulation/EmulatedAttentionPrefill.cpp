#include "kernels/cuda/Builtins.h"

#include "kernels/cuda/AttentionPrefill.cu"
