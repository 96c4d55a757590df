#include "runtime/base/System.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <limits>
#include <optional>
#include <pthread.h>
#include <sched.h>
#include <sstream>

namespace distc {

namespace {

namespace fs = std::filesystem;

constexpr uint64_t kUnlimited = std::numeric_limits<uint64_t>::max();

// The first number in a file; none where it is missing or says "max".
std::optional<uint64_t> readNumber(const fs::path &path) {
  std::ifstream in(path);
  uint64_t value = 0;
  if (in >> value)
    return value;
  return std::nullopt;
}

// The number after `key` in a file of "key number" lines.
std::optional<uint64_t> readField(const fs::path &path, const std::string &key) {
  std::ifstream in(path);
  for (std::string line; std::getline(in, line);) {
    std::istringstream words(line);
    std::string name;
    uint64_t value = 0;
    if (words >> name >> value && name == key)
      return value;
  }
  return std::nullopt;
}

// The folders of the control groups that limit this process, for one controller, from its own up to the mount. In a
// container the path may be the host's and not exist here; the mount itself then is the container's group.
std::vector<fs::path> groupFolders(const std::string &root, const std::string &controller) {
  std::vector<fs::path> folders;
  std::ifstream in(root + "/proc/self/cgroup");
  for (std::string line; std::getline(in, line);) {
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos)
      continue;
    std::istringstream names(line.substr(first + 1, second - first - 1));
    bool matches = second == first + 1; // "0::/path" is version 2
    for (std::string name; std::getline(names, name, ',');)
      matches = matches || name == controller;
    if (!matches)
      continue;
    const fs::path mount = root + "/sys/fs/cgroup" + (second == first + 1 ? "" : "/" + controller);
    fs::path inside = fs::path(line.substr(second + 1)).relative_path();
    for (;; inside = inside.parent_path()) {
      folders.push_back(mount / inside);
      if (inside.empty())
        break;
    }
  }
  return folders;
}

uint64_t left(uint64_t limit, uint64_t used, uint64_t reclaimable) {
  used -= std::min(used, reclaimable); // page cache of files goes first
  return limit - std::min(limit, used);
}

} // namespace

uint64_t availableMemory(const std::string &root) {
  uint64_t available = kUnlimited;
  if (auto kib = readField(root + "/proc/meminfo", "MemAvailable:"))
    available = *kib * 1024;
  for (const fs::path &folder : groupFolders(root, "memory")) {
    for (auto [limitFile, usedFile, cacheField] :
         {std::tuple("memory.max", "memory.current", "inactive_file"),
          std::tuple("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")}) {
      auto limit = readNumber(folder / limitFile), used = readNumber(folder / usedFile);
      if (limit && used)
        available = std::min(available, left(*limit, *used, readField(folder / "memory.stat", cacheField).value_or(0)));
    }
  }
  return available;
}

std::vector<int> allowedCores() {
  std::vector<int> cores;
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0)
    for (int core = 0; core < CPU_SETSIZE; ++core)
      if (CPU_ISSET(core, &set))
        cores.push_back(core);
  return cores;
}

uint32_t usableCores(const std::string &root) {
  uint64_t cores = std::max<size_t>(1, allowedCores().size());
  auto limit = [&](uint64_t quota, uint64_t period) {
    if (period != 0)
      cores = std::clamp<uint64_t>((quota + period - 1) / period, 1, cores);
  };
  for (const fs::path &folder : groupFolders(root, "cpu")) {
    uint64_t quota = 0, period = 0;
    if (std::ifstream in(folder / "cpu.max"); in >> quota >> period)
      limit(quota, period);
    auto quota1 = readNumber(folder / "cpu.cfs_quota_us"), period1 = readNumber(folder / "cpu.cfs_period_us");
    // No limit is -1, which reads as a number near 2^64.
    if (quota1 && period1 && *quota1 < (uint64_t(1) << 62))
      limit(*quota1, *period1);
  }
  return static_cast<uint32_t>(cores);
}

void pinThisThread(std::span<const int> cores) {
  cpu_set_t set;
  CPU_ZERO(&set);
  for (int core : cores)
    CPU_SET(core, &set);
  (void)pthread_setaffinity_np(pthread_self(), sizeof set, &set);
}

} // namespace distc
