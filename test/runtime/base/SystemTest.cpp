#include "runtime/base/System.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <unistd.h>

namespace distc {
namespace {

// A made-up /proc and /sys.
class FakeSystem : public ::testing::Test {
protected:
  void SetUp() override {
    root_ = std::filesystem::path(::testing::TempDir()) / ("distc-system-" + std::to_string(::getpid()));
    std::filesystem::remove_all(root_);
    write("proc/meminfo", "MemTotal:  64000 kB\nMemFree: 1 kB\nMemAvailable:   32000 kB\n");
  }
  void TearDown() override { std::filesystem::remove_all(root_); }

  void write(const std::string &path, const std::string &text) {
    std::filesystem::create_directories((root_ / path).parent_path());
    std::ofstream(root_ / path) << text;
  }

  uint64_t memory() { return availableMemory(root_.string()); }
  uint32_t cores() { return usableCores(root_.string()); }

  std::filesystem::path root_;
};

TEST_F(FakeSystem, WithoutLimits) {
  EXPECT_EQ(memory(), 32000u * 1024);
  EXPECT_EQ(cores(), std::max<size_t>(1, allowedCores().size()));
}

TEST_F(FakeSystem, Version2LimitOfAParentGroup) {
  write("proc/self/cgroup", "0::/outer/inner\n");
  write("sys/fs/cgroup/outer/inner/memory.max", "max\n");
  write("sys/fs/cgroup/outer/inner/memory.current", "5000\n");
  write("sys/fs/cgroup/outer/memory.max", "1000000\n");
  write("sys/fs/cgroup/outer/memory.current", "300000\n");
  write("sys/fs/cgroup/outer/memory.stat", "anon 1\ninactive_file 100000\n");
  write("sys/fs/cgroup/outer/cpu.max", "50000 100000\n");
  EXPECT_EQ(memory(), 1000000u - 300000 + 100000);
  EXPECT_EQ(cores(), 1u);
}

TEST_F(FakeSystem, Version1LimitWhereThePathIsTheHosts) {
  write("proc/self/cgroup", "4:memory:/docker/abc\n1:cpu,cpuacct:/docker/abc\n");
  write("sys/fs/cgroup/memory/memory.limit_in_bytes", "2000000\n");
  write("sys/fs/cgroup/memory/memory.usage_in_bytes", "1500000\n");
  write("sys/fs/cgroup/memory/memory.stat", "inactive_file 7\ntotal_inactive_file 500000\n");
  write("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n");
  write("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(memory(), 1000000u);
  EXPECT_EQ(cores(), std::max<size_t>(1, allowedCores().size()));
  write("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "100000\n");
  EXPECT_EQ(cores(), 1u);
}

TEST_F(FakeSystem, AGroupOverItsLimitLeavesNothing) {
  write("proc/self/cgroup", "0::/\n");
  write("sys/fs/cgroup/memory.max", "1000\n");
  write("sys/fs/cgroup/memory.current", "5000\n");
  EXPECT_EQ(memory(), 0u);
}

TEST(System, ThisMachine) {
  EXPECT_GT(availableMemory(), uint64_t(1) << 20);
  EXPECT_GE(usableCores(), 1u);
}

} // namespace
} // namespace distc
