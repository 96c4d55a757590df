// distc-translate: between plan files and the plan dialect.
#include "compiler/Pipelines/Pipelines.h"
#include "compiler/Target/PlanSetFolder.h"
#include "compiler/Target/PlanTarget.h"
#include "runtime/verify/Verify.h"

#include "mlir/IR/Verifier.h"
#include "mlir/Parser/Parser.h"
#include "llvm/Support/raw_ostream.h"

#include <cstdio>
#include <cstring>
#include <filesystem>
#include <optional>

using namespace distc;

namespace {

constexpr const char *kHelp = R"(distc-translate: between plan sets and the plan dialect

Usage:
  distc-translate --export DIR            print the plans of a plan set as IR
  distc-translate --import FILE.mlir DIR  verify the plans of a module, and make DIR the plan set of them
                                          (--unverified after DIR: for tests, whatever they are)
  distc-translate --help | --version

Export and import again give the same bytes.
)";

int fail(const Status &status) {
  std::fprintf(stderr, "distc-translate: error: %s\n", status.message().c_str());
  return 1;
}

Status exportSet(mlir::MLIRContext &context, const std::string &directory) {
  DISTC_ASSIGN(std::vector<PlanFile> set, openPlanSet(directory));
  auto module = mlir::OwningOpRef<mlir::ModuleOp>(mlir::ModuleOp::create(mlir::UnknownLoc::get(&context)));
  for (const PlanFile &file : set) {
    std::vector<Violation> violations = verifyPlan(file.plan());
    if (!violations.empty())
      return dataLoss(file.path() + ": " + violations[0].kind + ": " + violations[0].message);
    fromPlan(file.plan(), *module);
  }
  std::string text;
  llvm::raw_string_ostream(text) << *module;
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() || std::fflush(stdout) != 0)
    return failedPrecondition("cannot write to stdout");
  return {};
}

Status importSet(mlir::MLIRContext &context, const std::string &path, const std::string &directory, bool prove) {
  auto module = mlir::parseSourceFile<mlir::ModuleOp>(path, &context);
  if (!module)
    return invalidArgument(path + ": cannot be parsed");
  auto files = writePlanSet(*module);
  if (mlir::failed(files))
    return invalidArgument(path + ": holds a plan that cannot be written");
  if (files->empty())
    return invalidArgument(path + ": holds no plan.rank");
  DISTC_ASSIGN(const std::string folder, planSetFolder(directory));
  std::error_code error; // the tokenizer is no part of the IR: one that stands there stays
  std::optional<std::vector<uint8_t>> tokenizer;
  if (const auto file = std::filesystem::path(folder) / "tokenizer.dtok"; std::filesystem::exists(file, error)) {
    DISTC_ASSIGN(const std::string bytes, readFile(file.string()));
    tokenizer.emplace(bytes.begin(), bytes.end());
  }
  return replacePlanSet(*files, tokenizer, folder, prove).status();
}

} // namespace

int main(int argc, char **argv) {
  auto is = [&](int index, const char *text) { return index < argc && std::strcmp(argv[index], text) == 0; };
  if (argc == 2 && is(1, "--help")) {
    std::fputs(kHelp, stdout);
    return 0;
  }
  if (argc == 2 && is(1, "--version")) {
    std::puts("distc-translate " DISTC_VERSION);
    return 0;
  }
  bool exporting = argc == 3 && is(1, "--export"), unverified = argc == 5 && is(4, "--unverified"),
       importing = (argc == 4 || unverified) && is(1, "--import");
  if (!exporting && !importing) {
    std::fputs("distc-translate: error: expected --export DIR or --import FILE.mlir DIR; see --help\n", stderr);
    return 2;
  }
  mlir::DialectRegistry registry;
  registerDialects(registry);
  mlir::MLIRContext context(registry);
  context.loadAllAvailableDialects();
  Status status = exporting ? exportSet(context, argv[2]) : importSet(context, argv[2], argv[3], !unverified);
  return status.ok() ? 0 : fail(status);
}
