// The commands of distrun. Each opens the plan set, works, and reports.
#pragma once

#include "tools/distrun/Options.h"

#include <atomic>

namespace distc {

Status runGenerate(const Options &options);
Status runLogits(const Options &options);
Status runBench(const Options &options);
/// A failure if a value differs, which `differs` tells from others.
Status runDiff(const Options &options, bool &differs);
/// Of no plan set: measures the machine.
Status runBenchMachine(const Options &options);
/// A process that is not the first: runs its rank in whatever the first does.
Status runServe(const Options &options);

/// Runner::open, with progress on stderr when that is a terminal.
Result<std::unique_ptr<Runner>> openRunner(const Options &options);
Result<std::unique_ptr<Runner>> openRunner(const std::string &directory, RunnerOptions runner);

/// Set by Ctrl-C.
const std::atomic<bool> &interruptedFlag();

/// Writes to stdout and flushes; FailedPrecondition if it is closed.
Status print(const std::string &text);

} // namespace distc
