#include "runtime/backends/cuda/NcclLibrary.h"

#include <dlfcn.h>
#include <string>

namespace distc::nccl {

namespace {

constexpr const char *kFile = "libnccl.so.2";
constexpr int kOldest = 21400;

std::string versionText(int version) {
  return std::to_string(version / 10000) + "." + std::to_string(version / 100 % 100) + "." +
         std::to_string(version % 100);
}

// The file that was loaded, by one of its functions.
std::string fileOf(void *function, const char *otherwise) {
  Dl_info info;
  return dladdr(function, &info) != 0 && info.dli_fname ? info.dli_fname : otherwise;
}

} // namespace

Result<Library> load(const char *file) {
  void *handle = dlopen(file, RTLD_NOW | RTLD_LOCAL); // for as long as the process lives
  if (!handle)
    return failedPrecondition(
        std::string("ranks on GPUs of their own exchange through NCCL, which cannot be loaded: ") + dlerror() +
        "; install it, or set LD_LIBRARY_PATH to its folder (PyTorch has it in "
        "site-packages/nvidia/nccl/lib)");
  Library library;
  std::string missing;
  auto find = [&](auto &function, const char *name) {
    function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(dlsym(handle, name));
    if (!function && missing.empty())
      missing = name;
  };
  find(library.getVersion, "ncclGetVersion");
  find(library.getUniqueId, "ncclGetUniqueId");
  find(library.commInitRankConfig, "ncclCommInitRankConfig");
  find(library.commAbort, "ncclCommAbort");
  find(library.commGetAsyncError, "ncclCommGetAsyncError");
  find(library.getErrorString, "ncclGetErrorString");
  find(library.getLastError, "ncclGetLastError");
  find(library.groupStart, "ncclGroupStart");
  find(library.groupEnd, "ncclGroupEnd");
  find(library.allGather, "ncclAllGather");
  find(library.send, "ncclSend");
  find(library.recv, "ncclRecv");
  const std::string advice =
      versionText(kOldest) + " or newer is needed; install it, or set LD_LIBRARY_PATH to its folder";
  if (!library.getVersion)
    return failedPrecondition(std::string(file) + " is not NCCL: it has no ncclGetVersion; NCCL " + advice);
  int version = 0;
  (void)library.getVersion(&version);
  if (version >= kOldest && missing.empty())
    return library;
  return failedPrecondition(fileOf(reinterpret_cast<void *>(library.getVersion), file) + " is NCCL " +
                            versionText(version) + (version < kOldest ? "" : " without " + missing) + ", and " +
                            advice);
}

Result<const Library *> library() {
  static const Result<Library> loaded = load(kFile);
  if (!loaded.ok())
    return loaded.status();
  return &*loaded;
}

} // namespace distc::nccl
