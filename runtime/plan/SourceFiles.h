// The checkpoint's files: found, proven to be those the plan was compiled for, mapped.
#pragma once

#include "distc/Status.h"
#include "runtime/base/File.h"
#include "runtime/schema/plan_generated.h"

#include <map>
#include <memory>
#include <span>
#include <string>

namespace distc {

/// The files of one plan, in its order. The mappings are shared by the ranks of a process.
using SourceFiles = std::vector<std::shared_ptr<const MappedFile>>;

/// Opens the files of plans in `planFolder`. `weights` is where the checkpoint lies now: a folder that holds files of
/// the same base names, or the file itself; empty: where the plan says, relative to its folder. Size and header of
/// every file are compared before anything is returned.
class SourceFileCache {
public:
  SourceFileCache(std::string planFolder, std::string weights)
      : planFolder_(std::move(planFolder)), weights_(std::move(weights)) {}

  Result<SourceFiles> open(const plan::Plan &plan);

private:
  std::string resolve(const std::string &path, bool onlyFile) const;

  const std::string planFolder_, weights_;
  std::map<std::string, std::shared_ptr<const MappedFile>> files_; // by path
};

} // namespace distc
