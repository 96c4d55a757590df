#include "compiler/Target/PlanSetFolder.h"

#include "runtime/base/File.h"
#include "runtime/verify/Verify.h"

#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstdio>
#include <fcntl.h>
#include <filesystem>
#include <iterator>
#include <unistd.h>

namespace distc {

namespace fs = std::filesystem;

namespace {

constexpr const char *kTokenizerFile = "tokenizer.dtok";
constexpr const char *kTemporary = ".tmp.";

bool isOfPlanSet(const std::string &name) {
  return name == kTokenizerFile || (name.starts_with("rank") && name.ends_with(".plan"));
}

// What is not of a plan set is never deleted.
Status checkReplaceable(const fs::path &folder) {
  std::error_code error;
  if (!fs::exists(folder, error))
    return {};
  if (!fs::is_directory(folder, error))
    return invalidArgument(folder.string() + ": is not a folder; choose another with -o");
  for (const fs::directory_entry &entry : fs::directory_iterator(folder, error))
    if (const std::string name = entry.path().filename().string(); !isOfPlanSet(name))
      return invalidArgument(folder.string() + ": holds '" + name +
                             "', which is not of a plan set; choose another folder with -o");
  return {};
}

// What a compilation that was killed has left beside `folder`.
void removeLeftovers(const fs::path &folder) {
  const std::string prefix = folder.filename().string() + kTemporary;
  std::error_code error;
  for (const fs::directory_entry &entry : fs::directory_iterator(folder.parent_path(), error)) {
    const std::string name = entry.path().filename().string();
    pid_t process = 0;
    if (!name.starts_with(prefix) ||
        std::from_chars(name.data() + prefix.size(), name.data() + name.size(), process).ec != std::errc())
      continue;
    if (::kill(process, 0) != 0 && errno == ESRCH)
      fs::remove_all(entry.path(), error);
  }
}

Status fill(const fs::path &folder, const std::vector<std::vector<uint8_t>> &files,
            const std::optional<std::vector<uint8_t>> &tokenizer) {
  if (tokenizer)
    DISTC_TRY(writeFileAtomically((folder / kTokenizerFile).string(), std::as_bytes(std::span(*tokenizer))));
  for (size_t rank = files.size(); rank-- > 0;) // rank 0 last: with it the set is there
    DISTC_TRY(writeFileAtomically((folder / planFileName(static_cast<uint32_t>(rank))).string(),
                                  std::as_bytes(std::span(files[rank]))));
  return {};
}

// Where the folder itself must stay, being a mount point or somebody's working directory.
Status refill(const fs::path &folder, const std::vector<std::vector<uint8_t>> &files,
              const std::optional<std::vector<uint8_t>> &tokenizer) {
  DISTC_TRY(fill(folder, files, tokenizer));
  std::error_code error;
  for (const fs::directory_entry &entry : fs::directory_iterator(folder, error)) {
    const std::string name = entry.path().filename().string();
    uint32_t rank = 0;
    const bool stale = name == kTokenizerFile
                           ? !tokenizer
                           : std::from_chars(name.data() + 4, name.data() + name.size(), rank).ec != std::errc() ||
                                 rank >= files.size();
    if (isOfPlanSet(name) && stale)
      fs::remove(entry.path(), error);
  }
  return {};
}

// Ctrl-C while a set is written ends the process when nothing is left of what was written.
class Uninterrupted {
public:
  Uninterrupted() {
    struct sigaction later = {};
    later.sa_handler = [](int signal) { caught = signal; };
    later.sa_flags = SA_RESTART;
    for (size_t i = 0; i < std::size(kSignals); ++i)
      ::sigaction(kSignals[i], &later, &before_[i]);
  }
  ~Uninterrupted() {
    for (size_t i = 0; i < std::size(kSignals); ++i)
      ::sigaction(kSignals[i], &before_[i], nullptr);
    if (caught != 0)
      ::raise(caught);
  }
  Uninterrupted(const Uninterrupted &) = delete;
  Uninterrupted &operator=(const Uninterrupted &) = delete;

private:
  static constexpr int kSignals[] = {SIGINT, SIGTERM, SIGHUP};
  static inline volatile std::sig_atomic_t caught = 0;
  struct sigaction before_[std::size(kSignals)] = {};
};

} // namespace

Result<std::string> planSetFolder(const std::string &output) {
  std::error_code error;
  fs::path folder = fs::absolute(output, error);
  if (!error)
    folder = fs::weakly_canonical(folder, error);
  if (error)
    return failedPrecondition(output + ": cannot be resolved: " + error.message());
  if (!folder.has_filename()) // "DIR/" of a folder that is not there yet
    folder = folder.parent_path();
  return folder.string();
}

std::string relativeToFolder(const std::string &path, const std::string &folder) {
  std::error_code error;
  const fs::path absolute = fs::absolute(path, error);
  if (error)
    return path;
  const fs::path parent = fs::weakly_canonical(absolute.parent_path(), error);
  return error ? absolute.string() : (parent / absolute.filename()).lexically_relative(folder).string();
}

Result<std::vector<PlanFile>> replacePlanSet(const std::vector<std::vector<uint8_t>> &files,
                                             const std::optional<std::vector<uint8_t>> &tokenizer,
                                             const std::string &folder, bool prove) {
  DISTC_TRY(checkReplaceable(folder));
  removeLeftovers(folder);
  const fs::path temporary = folder + kTemporary + std::to_string(::getpid());
  const Uninterrupted uninterrupted; // outlives the remover
  std::error_code error;
  fs::remove_all(temporary, error);
  struct Remover { // whatever happens; after an exchange it is the old set
    const fs::path &path;
    ~Remover() {
      std::error_code ignored;
      fs::remove_all(path, ignored);
    }
  } remover{temporary};
  if (!fs::create_directories(temporary, error))
    return failedPrecondition(folder + ": cannot create: " + error.message());
  if (Status status = fill(temporary, files, tokenizer); !status.ok()) { // told by the name that the user knows
    std::string message = status.message();
    if (message.starts_with(temporary.string()))
      message.replace(0, temporary.string().size(), folder);
    return Status(status.code(), std::move(message));
  }
  DISTC_ASSIGN(std::vector<PlanFile> set, openPlanSet(temporary.string()));
  std::vector<const plan::Plan *> plans;
  plans.reserve(set.size());
  for (const PlanFile &file : set)
    plans.push_back(&file.plan());
  if (prove)
    DISTC_TRY(provePlanSet(plans, folder));
  if (!fs::exists(folder, error)) {
    fs::rename(temporary, folder, error);
    if (error)
      return failedPrecondition(folder + ": cannot create: " + error.message());
    return set;
  }
  const bool working = fs::equivalent(folder, fs::current_path(error), error);
  if (working || ::renameat2(AT_FDCWD, temporary.c_str(), AT_FDCWD, folder.c_str(), RENAME_EXCHANGE) != 0)
    DISTC_TRY(refill(folder, files, tokenizer));
  return set;
}

} // namespace distc
