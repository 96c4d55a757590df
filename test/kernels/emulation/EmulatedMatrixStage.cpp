#include "kernels/cuda/Builtins.h"

#include "kernels/cuda/MatrixStage.cu"
