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
std::string fileOf(void *function) {
  Dl_info info;
  return dladdr(function, &info) != 0 && info.dli_fname ? info.dli_fname : kFile;
}

Result<const Library *> load() {
  void *handle = dlopen(kFile, RTLD_NOW | RTLD_LOCAL); // for as long as the process lives
  if (!handle)
    return failedPrecondition(
        std::string("ranks on GPUs of their own exchange through NCCL, which cannot be loaded: ") + dlerror() +
        "; install it, or set LD_LIBRARY_PATH to its folder (PyTorch has it in "
        "site-packages/nvidia/nccl/lib)");
  static Library library;
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
  int version = 0;
  if (library.getVersion)
    (void)library.getVersion(&version);
  if (version >= kOldest && missing.empty())
    return &library;
  const std::string file = library.getVersion ? fileOf(reinterpret_cast<void *>(library.getVersion)) : kFile;
  return failedPrecondition(file + " is NCCL " + versionText(version) +
                            (version < kOldest ? "" : " without " + missing) + ", and " + versionText(kOldest) +
                            " or newer is needed; install it, or set LD_LIBRARY_PATH to its folder");
}

} // namespace

Result<const Library *> library() {
  static const Result<const Library *> loaded = load();
  return loaded;
}

} // namespace distc::nccl
