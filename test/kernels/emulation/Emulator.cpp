#include "Emulator.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <memory>
#include <random>
#include <span>
#include <utility>
#include <vector>

#include <csetjmp>
#include <ucontext.h>

namespace distc::emulation {

dim3 threadIdx, blockIdx, blockDim, gridDim;
int clusterRank, clusterBlocks;

void fail(const char *what) {
  std::fprintf(stderr, "emulation: thread %u of block %u: %s\n", threadIdx.x, blockIdx.x, what);
  std::abort();
}

namespace {

constexpr unsigned char kUntouched = 0x5A;
constexpr size_t groupThreads = 4 * lanes;
constexpr size_t stackBytes = 64 << 10, sharedBytes = 256 << 10, arenaAlignment = 1024;

struct Barrier { // in 64 bits
  uint32_t expected : 12, pending : 12, phase : 1;
  int32_t bytes;
};
static_assert(sizeof(Barrier) == sizeof(uint64_t));

struct Warp {
  const char *what = nullptr;
  void *given[lanes] = {};
  int arrived = 0;
  uint64_t meetings = 0;
};
struct Meeting {
  int arrived = 0;
  uint64_t meetings = 0;
};

/// What a thread has begun and is done when it waits, in groups.
struct Deferred {
  std::vector<std::function<void()>> queued;
  std::deque<std::vector<std::function<void()>>> groups;

  size_t ended = 0; // groups, done or not

  void end() {
    groups.push_back(std::exchange(queued, {}));
    ++ended;
  }
  void wait(size_t left) {
    for (; groups.size() > left; groups.pop_front())
      for (const auto &act : groups.front())
        act();
  }
  bool any() const {
    return !queued.empty() || std::ranges::any_of(groups, [](const auto &group) { return !group.empty(); });
  }
};

struct Fiber {
  dim3 thread, block;
  int rank;
  Warp *warp;
  Meeting *barriers;  // of the block
  ucontext_t context; // how it begins
  jmp_buf place;      // where it waits: jumps, unlike swapcontext, call no system
  bool begun = false;
  std::unique_ptr<unsigned char[]> stack;
  std::function<bool()> ready; // empty: it may run
  bool waited = false;         // for the kernel before
  Deferred copies, products;
  bool done = false;
};

struct Copy {
  int rounds;
  std::function<void()> copy;
  uint64_t *barrier;
  uint32_t bytes;
};

// One run at a time.
Fiber *current;
jmp_buf scheduler;
const std::function<void()> *kernelBody;
std::vector<Copy> copies;
Meeting cluster;
int clusterThreads;
std::mt19937 randomEngine{std::random_device{}()};
unsigned char *arena;

Barrier &barrierAt(const uint64_t *p) { return *reinterpret_cast<Barrier *>(const_cast<uint64_t *>(p)); }

void endPhaseIfDone(Barrier &b) {
  if (b.pending == 0 && b.bytes == 0) {
    b.phase ^= 1;
    b.pending = b.expected;
  }
}

void run() {
  (*kernelBody)();
  current->done = true;
  _longjmp(scheduler, 1);
}

// What getcontext returns to a second time must not keep variables in registers.
[[gnu::noinline]] void prepare(Fiber &fiber) {
  getcontext(&fiber.context);
  fiber.context.uc_stack = {fiber.stack.get(), 0, stackBytes};
  fiber.context.uc_link = nullptr; // it never returns
  makecontext(&fiber.context, run, 0);
}

[[gnu::noinline]] void resume(Fiber &fiber) {
  current = &fiber;
  threadIdx = fiber.thread;
  blockIdx = fiber.block;
  clusterRank = fiber.rank;
  if (_setjmp(scheduler) != 0)
    return;
  if (current->begun)
    _longjmp(current->place, 1);
  current->begun = true;
  setcontext(&current->context);
}

// One of each: how far a cluster's threads have come.
bool runCluster(std::vector<Fiber> &fibers) {
  for (size_t left = fibers.size(); left > 0;) {
    // From anywhere on, and now and then a warp is held back: an order that nothing asks for must not help.
    bool moved = false;
    const size_t first = randomEngine() % fibers.size();
    uint32_t held = randomEngine() & randomEngine();
    for (size_t i = 0; i < fibers.size(); ++i) {
      Fiber &fiber = fibers[(first + i) % fibers.size()];
      if (fiber.done || (fiber.ready && !fiber.ready()))
        continue;
      if (held >> (fiber.thread.x / lanes) & 1) {
        moved = true;
        continue;
      }
      fiber.ready = nullptr;
      moved = true;
      resume(fiber);
      left -= fiber.done;
    }
    for (size_t i = 0; i < copies.size();) {
      moved = true;
      if (copies[i].rounds-- > 0) {
        ++i;
        continue;
      }
      const Copy copy = std::move(copies[i]);
      copies.erase(copies.begin() + static_cast<std::ptrdiff_t>(i));
      copy.copy();
      if (copy.bytes != 0) {
        Barrier &b = barrierAt(copy.barrier);
        b.bytes -= static_cast<int32_t>(copy.bytes);
        endPhaseIfDone(b);
      }
    }
    if (!moved && left > 0) {
      const auto first = std::ranges::find(fibers, false, &Fiber::done);
      std::fprintf(stderr, "emulation: %zu threads wait for ever, the first of them %u of block %u\n", left,
                   first->thread.x, first->block.x);
      return false;
    }
  }
  for (const Fiber &fiber : fibers)
    if (fiber.copies.any() || fiber.products.any())
      fail("a thread ended before copies or products that it had begun");
  if (!copies.empty())
    fail("a block ended before copies that it had begun");
  return true;
}

} // namespace

void waitUntil(const std::function<bool()> &ready) {
  if (ready())
    return;
  current->ready = ready;
  if (_setjmp(current->place) == 0)
    _longjmp(scheduler, 1);
}

void meetWarp(const char *what, void *mine, const std::function<void(std::span<void *const>)> &act) {
  Warp &warp = *current->warp;
  if (warp.arrived == 0)
    warp.what = what;
  else if (std::strcmp(warp.what, what) != 0)
    fail("lanes of a warp meet at different operations");
  warp.given[threadIdx.x % lanes] = mine;
  const uint64_t meeting = warp.meetings;
  if (++warp.arrived == lanes) {
    act(warp.given);
    warp.arrived = 0;
    ++warp.meetings;
  } else {
    waitUntil([&warp, meeting] { return warp.meetings != meeting; });
  }
}

void meetBlock(int barrier, int threads) {
  Meeting &b = current->barriers[barrier];
  const uint64_t meeting = b.meetings;
  if (++b.arrived == threads) {
    b.arrived = 0;
    ++b.meetings;
  } else {
    waitUntil([&b, meeting] { return b.meetings != meeting; });
  }
}

uint64_t arriveCluster() {
  const uint64_t meeting = cluster.meetings;
  if (++cluster.arrived == clusterThreads) {
    cluster.arrived = 0;
    ++cluster.meetings;
  }
  return meeting;
}
void waitCluster(uint64_t ticket) {
  waitUntil([ticket] { return cluster.meetings != ticket; });
}

void waitForPrevious() { current->waited = true; }
void needPrevious() {
  if (!current->waited)
    fail("something that a kernel writes is read or written before the kernel before has ended");
}

unsigned char *sharedMemory() { return arena + static_cast<size_t>(clusterRank) * sharedBytes; }
uint32_t sharedAddress(const void *p) { return static_cast<uint32_t>(static_cast<const unsigned char *>(p) - arena); }
unsigned char *sharedPointer(uint32_t address, uint32_t alignment) {
  if (address % alignment != 0)
    fail("an address in shared memory that is not aligned");
  return arena + address;
}
void *atBlock(void *p, int rank) {
  return static_cast<unsigned char *>(p) + (rank - clusterRank) * static_cast<std::ptrdiff_t>(sharedBytes);
}

void initBarrier(uint64_t *barrier, int arrivals) {
  barrierAt(barrier) = {static_cast<uint32_t>(arrivals), static_cast<uint32_t>(arrivals), 0, 0};
}
void arrive(uint64_t *barrier, uint32_t expectedBytes) {
  Barrier &b = barrierAt(barrier);
  if (b.pending == 0)
    fail("more arrivals at a barrier than it has");
  b.bytes += static_cast<int32_t>(expectedBytes);
  --b.pending;
  endPhaseIfDone(b);
}
bool hasEnded(const uint64_t *barrier, uint32_t parity) { return barrierAt(barrier).phase != parity; }

void copyLater(std::function<void()> copy, uint64_t *barrier, uint32_t bytes) {
  copies.push_back({static_cast<int>(randomEngine() % 4), std::move(copy), barrier, bytes});
}
void queueCopy(std::function<void()> copy) { current->copies.queued.push_back(std::move(copy)); }
void endCopies() { current->copies.end(); }
void waitCopies(size_t left) { current->copies.wait(left); }
void arriveAfterCopies(uint64_t *barrier) {
  auto act = [queued = std::exchange(current->copies.queued, {}), barrier] {
    for (const auto &copy : queued)
      copy();
    arrive(barrier, 0);
  };
  copies.push_back({static_cast<int>(randomEngine() % 4), std::move(act), barrier, 0});
}
void queueProduct(std::function<void()> product) { current->products.queued.push_back(std::move(product)); }
void commitProducts() { current->products.end(); }
// A product is its warp group's: it is done for all of them or for none.
void waitProducts(size_t left) {
  const size_t target = current->products.ended - std::min(left, current->products.ended);
  const std::span<Fiber> group(current - threadIdx.x % groupThreads, groupThreads);
  waitUntil([=] { return std::ranges::all_of(group, [=](const Fiber &f) { return f.products.ended >= target; }); });
  for (Fiber &fiber : group)
    fiber.products.wait(fiber.products.ended - target);
}

void checkBox(const void *map, int column, int row) {
  const Map &m = *static_cast<const Map *>(map);
  // Columns behind the last are zero, rows too; of narrow stages no tile reaches behind them but with half of the last
  // unit.
  if (row < 0 || (m.inside && row + m.boxRows > m.rows + m.rows % 2) || column < 0)
    fail("a box is outside of its matrix");
}

void copyBox(uint32_t to, const void *map, int column, int row, uint64_t *barrier) {
  checkBox(map, column, row);
  const Map m = *static_cast<const Map *>(map);
  constexpr int rowBytes = 128, chunkBytes = 16;
  if (to % 128 != 0)
    fail("a box goes to an address that is no multiple of 128");
  auto copy = [=] {
    for (int block = 0; block < m.boxBlocks; ++block)
      for (int r = 0; r < m.boxRows; ++r)
        for (int c = 0; c < rowBytes; c += chunkBytes) {
          const int64_t from = (column + block * 64) * 2 + c;
          const uint32_t at = to + static_cast<uint32_t>((block * m.boxRows + r) * rowBytes + c);
          unsigned char *out = sharedPointer(at ^ ((at >> 7 & 7) << 4));
          if (from < m.cols * 2 && row + r < m.rows)
            std::memcpy(out, m.data + (row + r) * m.rowBytes + from, chunkBytes);
          else
            std::memset(out, 0, chunkBytes);
        }
  };
  copyLater(copy, barrier, static_cast<uint32_t>(m.boxBlocks * m.boxRows * rowBytes));
}

cudaError_t launch(dim3 grid, int threads, size_t bytes, int blocks, const std::function<void()> &kernel,
                   bool overlapped) {
  if (bytes > 227 * 1024 || threads % lanes != 0 || grid.x % static_cast<unsigned>(blocks) != 0)
    return cudaErrorInvalidConfiguration;
  std::vector<unsigned char> memory(sharedBytes * static_cast<size_t>(blocks) + arenaAlignment);
  arena = memory.data() + arenaAlignment - reinterpret_cast<uintptr_t>(memory.data()) % arenaAlignment;
  kernelBody = &kernel;
  blockDim = dim3(static_cast<unsigned>(threads));
  gridDim = grid;
  clusterBlocks = blocks;
  clusterThreads = threads * blocks;
  const auto count = static_cast<size_t>(clusterThreads);
  std::vector<Fiber> fibers(count);
  for (Fiber &fiber : fibers)
    fiber.stack = std::make_unique_for_overwrite<unsigned char[]>(stackBytes);
  for (unsigned first = 0; first < grid.x; first += static_cast<unsigned>(blocks)) {
    std::ranges::generate(memory, [] { return static_cast<unsigned char>(randomEngine()); }); // what was there before
    std::vector<Warp> warps(count / lanes);
    std::vector<Meeting> barriers(static_cast<size_t>(blocks) * 16);
    cluster = {};
    copies.clear();
    for (size_t i = 0; i < count; ++i) {
      Fiber &fiber = fibers[i];
      const int rank = static_cast<int>(i) / threads, thread = static_cast<int>(i) % threads;
      fiber.thread = dim3(static_cast<unsigned>(thread), 0, 0);
      fiber.block = dim3(first + static_cast<unsigned>(rank), 0, 0);
      fiber.rank = rank;
      fiber.warp = &warps[i / lanes];
      fiber.barriers = &barriers[static_cast<size_t>(rank) * 16];
      fiber.ready = nullptr;
      fiber.copies = fiber.products = {};
      fiber.begun = fiber.done = fiber.waited = false;
      prepare(fiber);
    }
    auto behind = [&](int rank) { // what the launch has not asked for
      return std::span(arena + (static_cast<size_t>(rank) * sharedBytes) + bytes, sharedBytes - bytes);
    };
    for (int rank = 0; rank < blocks; ++rank)
      std::ranges::fill(behind(rank), kUntouched);
    if (!runCluster(fibers))
      return cudaErrorLaunchTimeout;
    // Of each block at least those who read or write what another kernel writes: not all such accesses are seen.
    for (int rank = 0; rank < blocks; ++rank)
      if (overlapped && std::ranges::none_of(fibers, [&](const Fiber &f) { return f.rank == rank && f.waited; }))
        fail("a kernel that may start before the one before has ended never waits for it");
    for (int rank = 0; rank < blocks; ++rank)
      if (!std::ranges::all_of(behind(rank), [](unsigned char c) { return c == kUntouched; }))
        fail("shared memory was written behind what the launch asked for");
  }
  return cudaSuccess;
}

} // namespace distc::emulation
