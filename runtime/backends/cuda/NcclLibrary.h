// NCCL, found when it is needed: a build needs none of its files, and distrun starts where it is not installed.
//
// Declared here is the little that is used of its interface, as documented in "NCCL API",
// https://docs.nvidia.com/deeplearning/nccl/user-guide/docs/api.html, under names of our own. What is declared is part
// of NCCL since 2.14, and stays: a configuration says of which version it is.
#pragma once

#include "distc/Status.h"

#include <cuda_runtime_api.h>

#include <cstddef>

namespace distc::nccl {

using Comm = struct Opaque *;
enum class Code : int { Success = 0, InProgress = 7 }; // any other is an error
enum class Type : int { Bytes = 1 };                   // ncclUint8

struct UniqueId {
  char bytes[128];
};

struct Config {
  size_t size = sizeof(Config);
  unsigned magic = 0xcafebeef;
  unsigned version = 21400;
  int blocking = 0;
};

struct Library {
  Code (*getVersion)(int *version);
  Code (*getUniqueId)(UniqueId *id);
  Code (*commInitRankConfig)(Comm *comm, int ranks, UniqueId id, int rank, Config *config);
  Code (*commAbort)(Comm comm);
  Code (*commGetAsyncError)(Comm comm, Code *code);
  const char *(*getErrorString)(Code code);
  const char *(*getLastError)(Comm comm);
  Code (*groupStart)();
  Code (*groupEnd)();
  Code (*allGather)(const void *in, void *out, size_t count, Type type, Comm comm, cudaStream_t stream);
  Code (*send)(const void *in, size_t count, Type type, int peer, Comm comm, cudaStream_t stream);
  Code (*recv)(void *out, size_t count, Type type, int peer, Comm comm, cudaStream_t stream);
};

/// Loads libnccl.so.2 when called first. An error says that it is missing, or older than what is declared here.
Result<const Library *> library();

/// The same of any file.
Result<Library> load(const char *file);

} // namespace distc::nccl
