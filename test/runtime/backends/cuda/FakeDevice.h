// A device and an NCCL of which a rank sees what it would see of real ones while it waits. Memory is the host's, and
// what is queued is done at once, but for what NCCL is to do with peers: that, and all that is queued behind it on its
// stream, is done if the peers come, and ends when NCCL is aborted.
#pragma once

#include <cuda_runtime_api.h>

#include <atomic>

namespace distc::test {

struct FakeDevice {
  std::atomic<bool> peersCome{true};
  std::atomic<bool> isAborted{false};
  std::atomic<cudaError_t> fault{cudaSuccess}; // what a kernel has done; every question is answered with it
};
extern FakeDevice fakeDevice;

} // namespace distc::test
