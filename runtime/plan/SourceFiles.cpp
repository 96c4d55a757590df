#include "runtime/plan/SourceFiles.h"

#include <filesystem>

namespace distc {

namespace {

namespace fs = std::filesystem;

constexpr const char *kAdvice = "; compile again, or point --weights DIR to the checkpoint";

Status check(const MappedFile &file, const plan::SourceFile &expected) {
  if (file.size() != expected.size())
    return failedPrecondition(file.path() + ": changed since compile: size is " + std::to_string(file.size()) +
                              ", expected " + std::to_string(expected.size()) + kAdvice);
  if (expected.header_bytes() > file.size())
    return dataLoss(file.path() + ": the plan says its header has " + std::to_string(expected.header_bytes()) +
                    " bytes, the file has " + std::to_string(file.size()) + "; compile again");
  if (hashBytes(file.bytes().first(expected.header_bytes())) != expected.header_hash())
    return failedPrecondition(file.path() + ": changed since compile: its header (the first " +
                              std::to_string(expected.header_bytes()) + " bytes) is another" + kAdvice);
  return {};
}

} // namespace

std::string SourceFileCache::resolve(const std::string &path, bool onlyFile) const {
  std::error_code ignored;
  if (weights_.empty()) {
    // ".." after a link is not the link's own folder, so the system resolves it. The file keeps its own name.
    const fs::path file = fs::path(planFolder_) / path, folder = fs::weakly_canonical(file.parent_path(), ignored);
    return ((ignored ? file.parent_path() : folder) / file.filename()).string();
  }
  if (!fs::is_regular_file(weights_, ignored))
    return (fs::path(weights_) / fs::path(path).filename()).string();
  // A file: of several it is one, and its siblings lie beside it.
  return onlyFile ? weights_ : (fs::path(weights_).parent_path() / fs::path(path).filename()).string();
}

Result<SourceFiles> SourceFileCache::open(const plan::Plan &plan) {
  SourceFiles result;
  for (const plan::SourceFile *source : *plan.files()) {
    const std::string path = resolve(source->path()->str(), plan.files()->size() == 1);
    std::shared_ptr<const MappedFile> &file = files_[path];
    if (!file) {
      auto opened = MappedFile::open(path);
      if (!opened.ok())
        return failedPrecondition(opened.status().message() +
                                  "; the plan needs this file of the checkpoint: point --weights DIR to it");
      file = std::make_shared<const MappedFile>(opened.take());
    }
    DISTC_TRY(check(*file, *source));
    result.push_back(file);
  }
  return result;
}

} // namespace distc
