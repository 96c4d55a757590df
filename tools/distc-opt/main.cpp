// distc-opt: runs single passes over IR, for tests and for looking.
#include "compiler/Pipelines/Pipelines.h"
#include "compiler/Transforms/Passes.h"

#include "mlir/Tools/mlir-opt/MlirOptMain.h"
#include "mlir/Transforms/Passes.h"
#include "llvm/Support/CommandLine.h"
#include "llvm/Support/raw_ostream.h"

int main(int argc, char **argv) {
  distc::registerDistcPasses();
  mlir::registerCanonicalizerPass();
  mlir::DialectRegistry registry;
  distc::registerDialects(registry);
  llvm::cl::SetVersionPrinter([](llvm::raw_ostream &out) { out << "distc-opt " DISTC_VERSION "\n"; });
  llvm::cl::opt<std::string> input(llvm::cl::Positional, llvm::cl::desc("<input file>"), llvm::cl::init("-"));
  llvm::cl::opt<std::string> output("o", llvm::cl::desc("Output file"), llvm::cl::value_desc("file"),
                                    llvm::cl::init("-"));
  std::string help = mlir::registerCLIOptions("distc-opt: runs passes over IR\n", registry);
  // mlir::parseCLIOptions would exit with 1.
  if (!llvm::cl::ParseCommandLineOptions(argc, argv, help, &llvm::errs()))
    return 2;
  return mlir::asMainReturnCode(mlir::MlirOptMain(argc, argv, input, output, registry));
}
