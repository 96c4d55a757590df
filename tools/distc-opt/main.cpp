// distc-opt: runs single passes over IR, for tests and for looking.
#include "compiler/Pipelines/Pipelines.h"
#include "compiler/Transforms/Passes.h"

#include "mlir/Tools/mlir-opt/MlirOptMain.h"
#include "mlir/Transforms/Passes.h"

int main(int argc, char **argv) {
  distc::registerDistcPasses();
  mlir::registerCanonicalizerPass();
  mlir::DialectRegistry registry;
  distc::registerDialects(registry);
  return mlir::asMainReturnCode(mlir::MlirOptMain(argc, argv, "distc optimizer driver\n", registry));
}
