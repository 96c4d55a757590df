#include "runtime/backends/Backend.h"
#include "tools/distrun/Commands.h"

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <exception>
#include <unistd.h>

namespace {

bool valuesDiffer = false; // of `diff`, whose exit code tells this from an error
bool readerGone = false;   // whoever closed the pipe wants to hear no more, of this neither
std::atomic<bool> interrupted{false};
static_assert(std::atomic<bool>::is_always_lock_free, "a signal handler may only use lock-free atomics");

void onInterrupt(int) {
  if (interrupted.exchange(true))
    _exit(130);
}

} // namespace

namespace distc {

Status print(const std::string &text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) == text.size() && std::fflush(stdout) == 0)
    return {};
  readerGone = errno == EPIPE;
  return failedPrecondition(std::string("cannot write to stdout: ") + std::strerror(errno));
}

const std::atomic<bool> &interruptedFlag() { return interrupted; }

Result<std::unique_ptr<Runner>> openRunner(const Options &options) {
  return openRunner(options.directory, options.runner);
}

Result<std::unique_ptr<Runner>> openRunner(const std::string &directory, RunnerOptions runner) {
  runner.interrupted = &interrupted;
  if (isatty(STDERR_FILENO) && (!runner.processes || runner.processes->rank() == 0))
    runner.loadProgress = [last = -1](uint64_t done, uint64_t total) mutable {
      const int percent = total == 0 ? 100 : static_cast<int>(100.0 * double(done) / double(total));
      if (std::exchange(last, percent) != percent)
        std::fprintf(stderr, "\rloading weights: %d%%%s", percent, done >= total ? "\n" : "");
    };
  return Runner::open(directory, runner);
}

Status runServe(const Options &options) {
  DISTC_ASSIGN(const std::unique_ptr<Runner> runner, openRunner(options));
  return runner->serve();
}

static std::string versionText() {
  const std::string cuda(deviceTargets());
  return "distrun " DISTC_VERSION "\ntargets: cpu" + (cuda.empty() ? "" : ", " + cuda) + "\nranks: threads, " +
         (cuda.empty() ? "" : "device, gpus, ") + (hasMpi() ? "mpi, " : "") + "env\n";
}

static Status run(const Options &options) {
  if (options.runner.processes && options.runner.processes->rank() != 0)
    return runServe(options);
  switch (options.command) {
  case Command::Help:
    return print(options.helpText);
  case Command::Version:
    return print(versionText());
  case Command::Generate:
    return runGenerate(options);
  case Command::Logits:
    return runLogits(options);
  case Command::Bench:
    return runBench(options);
  case Command::Diff:
    return runDiff(options, valuesDiffer);
  case Command::BenchMachine:
    return runBenchMachine(options);
  }
  return internal("unknown command");
}

// The exceptions of libraries: above all, no memory.
template <typename Work> static Status caught(Work work) {
  try {
    return work();
  } catch (const std::exception &error) {
    return internal(error.what());
  }
}

static void report(const Status &status) {
  if (readerGone)
    return;
  if (status.code() == Code::Cancelled && isatty(STDERR_FILENO))
    std::fputc('\n', stderr); // the text was in the middle of a line
  std::fprintf(stderr, "distrun: error: %s\n", status.message().c_str());
}

static int exitCode(const Status &status) { return status.ok() ? 0 : status.code() == Code::Cancelled ? 130 : 1; }

// One process for each rank: of a failure that all know of, one of them speaks.
static int runProcesses(Options options) {
  std::signal(SIGTERM, onInterrupt); // how launchers pass on Ctrl-C
  std::unique_ptr<Processes> processes;
  Status status = caught([&]() -> Status {
    DISTC_ASSIGN(processes, Processes::join(*options.launcher, options.runner.timeoutSeconds, &interrupted));
    options.runner.processes = processes.get();
    return run(options);
  });
  if (!processes || processes->finish(status))
    report(status);
  return exitCode(status);
}

} // namespace distc

int main(int argc, char **argv) {
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGINT, onInterrupt);
  const distc::Result<distc::Options> options =
      distc::parseOptions(std::vector<std::string>(argv + (argc > 0), argv + argc));
  if (!options.ok()) {
    distc::report(options.status());
    return 2;
  }
  if (options->launcher)
    return distc::runProcesses(*options);
  const distc::Status status = distc::caught([&] { return distc::run(*options); });
  if (!status.ok())
    distc::report(status);
  const int code = distc::exitCode(status);
  return code == 1 && options->command == distc::Command::Diff && !valuesDiffer ? 2 : code;
}
