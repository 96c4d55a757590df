#include "kernels/cuda/Builtins.h"

#include "kernels/cuda/WideStage.cu"
