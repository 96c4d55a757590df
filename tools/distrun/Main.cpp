#include "tools/distrun/Commands.h"

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <exception>
#include <unistd.h>

namespace {

bool readerGone = false; // whoever closed the pipe wants to hear no more, of this neither
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

Result<std::unique_ptr<Runner>> openRunner(const Options &options) {
  RunnerOptions runner = options.runner;
  runner.interrupted = &interrupted;
  if (isatty(STDERR_FILENO))
    runner.loadProgress = [last = -1](uint64_t done, uint64_t total) mutable {
      const int percent = total == 0 ? 100 : static_cast<int>(100.0 * double(done) / double(total));
      if (std::exchange(last, percent) != percent)
        std::fprintf(stderr, "\rloading weights: %d%%%s", percent, done >= total ? "\n" : "");
    };
  return Runner::open(options.directory, runner);
}

static Status run(const Options &options) {
  switch (options.command) {
  case Command::Help:
    return print(options.helpText);
  case Command::Version:
    return print("distrun " DISTC_VERSION "\n");
  case Command::Generate:
    return runGenerate(options);
  case Command::Logits:
    return runLogits(options);
  case Command::Bench:
    return runBench(options);
  }
  return internal("unknown command");
}

} // namespace distc

int main(int argc, char **argv) {
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGINT, onInterrupt);
  const distc::Result<distc::Options> options =
      distc::parseOptions(std::vector<std::string>(argv + (argc > 0), argv + argc));
  distc::Status status = options.status();
  try {
    if (options.ok())
      status = distc::run(*options);
  } catch (const std::exception &error) { // of the libraries: above all, no memory
    status = distc::internal(error.what());
  }
  if (status.ok())
    return 0;
  if (!readerGone) {
    if (status.code() == distc::Code::Cancelled && isatty(STDERR_FILENO))
      std::fputc('\n', stderr); // the text was in the middle of a line
    std::fprintf(stderr, "distrun: error: %s\n", status.message().c_str());
  }
  if (!options.ok())
    return 2;
  return status.code() == distc::Code::Cancelled ? 130 : 1;
}
