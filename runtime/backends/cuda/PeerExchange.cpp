#include "runtime/backends/cuda/PeerExchange.h"

#include "runtime/backends/cuda/CudaBackend.h"
#include "runtime/comm/Socket.h"
#include "runtime/schema/PlanFile.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <random>
#include <set>

namespace distc::cuda {

namespace {

// What a member tells of itself, then of its memory, then of what it can reach.
struct Place {
  uint64_t process; // the same in all ranks of one, and in no other
  uint64_t device;  // of the process
  char host[256];
};
struct Card {
  void *inbox;
  cudaIpcMemHandle_t handle;
  uint64_t isShared;
};
template <typename T> constexpr bool travels = sizeof(T) % sizeof(float) == 0; // as those
static_assert(travels<Place> && travels<Card>);

uint64_t thisProcess() {
  static const uint64_t number = [] {
    std::random_device random;
    return uint64_t(random()) << 32 | random();
  }();
  return number;
}

// An error that is an answer: not to be found by a later call.
bool succeeded(cudaError_t error) {
  if (error != cudaSuccess)
    (void)cudaGetLastError();
  return error == cudaSuccess;
}

template <typename T> Result<std::vector<T>> tellAll(const PeerExchange::Tell &tell, const T &mine) {
  DISTC_ASSIGN(const std::vector<std::byte> bytes, tell(std::as_bytes(std::span(&mine, 1))));
  std::vector<T> all(bytes.size() / sizeof(T));
  std::memcpy(all.data(), bytes.data(), bytes.size());
  return all;
}

// Memory of the thread's device that other devices of the process can use, none of whose other memory they can: that
// would tie together all that is done on them. Null: it cannot be had.
Memory allocateFor(uint64_t device, std::span<const Place> places, size_t bytes) {
  cudaMemPoolProps properties{};
  properties.allocType = cudaMemAllocationTypePinned;
  properties.location.type = cudaMemLocationTypeDevice;
  properties.location.id = static_cast<int>(device);
  std::vector<cudaMemAccessDesc> others;
  for (const Place &place : places)
    if (place.device != device) {
      cudaMemAccessDesc &other = others.emplace_back();
      other.location.type = cudaMemLocationTypeDevice;
      other.location.id = static_cast<int>(place.device);
      other.flags = cudaMemAccessFlagsProtReadWrite;
    }
  cudaMemPool_t pool = nullptr;
  if (!succeeded(cudaMemPoolCreate(&pool, &properties)))
    return {};
  void *data = nullptr;
  Stream stream;
  if (succeeded(cudaMemPoolSetAccess(pool, others.data(), others.size())) && stream.create().ok() &&
      succeeded(cudaMallocFromPoolAsync(&data, bytes, pool, stream)))
    (void)succeeded(cudaStreamSynchronize(stream));
  (void)succeeded(cudaMemPoolDestroy(pool)); // once the memory is freed
  return Memory::adopt(data);
}

ExchangeHost &hostOf(const Memory &memory) { return *reinterpret_cast<ExchangeHost *>(memory.data()); }

} // namespace

Result<PeerExchange> PeerExchange::connect(uint32_t members, uint32_t self, uint32_t device, const Tell &tell,
                                           const std::string &what) {
  PeerExchange result;
  if (members > maxPeers)
    return result;
  Place here{thisProcess(), device, {}};
  hostName().copy(here.host, sizeof(here.host) - 1);
  DISTC_ASSIGN(const std::vector<Place> places, tellAll(tell, here));
  std::set<uint64_t> processes;
  for (const Place &place : places) {
    processes.insert(place.process);
    if (std::strncmp(place.host, here.host, sizeof(here.host)) != 0)
      return result;
  }
  result.sharesProcess_ = processes.size() == 1;
  if (!result.sharesProcess_ && processes.size() != members)
    return result;

  Exchange exchange{};
  exchange.members = static_cast<int>(members);
  exchange.self = static_cast<int>(self);
  // A page of the device at least: a handle gives others all of the page that it is in.
  constexpr size_t kPage = 2 << 20, kCounts = 256;
  const size_t inbox = static_cast<size_t>(inboxBytes(exchange.members)),
               bytes = (inbox + kCounts + kPage - 1) / kPage * kPage;
  if (result.sharesProcess_) {
    result.inbox_ = allocateFor(device, places, bytes);
  } else {
    DISTC_ASSIGN(result.inbox_, Memory::allocate(Memory::Kind::Device, bytes, what + ": messages of peers"));
  }
  Card mine{};
  mine.inbox = result.inbox_.data();
  if (mine.inbox) {
    DISTC_TRY(check(cudaMemset(mine.inbox, 0, bytes), "clear the messages of peers"));
    DISTC_TRY(check(cudaDeviceSynchronize(), "clear the messages of peers"));
    DISTC_TRY(check(prepareExchange(), "load the kernels of exchange"));
    mine.isShared = result.sharesProcess_ || succeeded(cudaIpcGetMemHandle(&mine.handle, mine.inbox));
  }
  exchange.calls = reinterpret_cast<uint32_t *>(result.inbox_.data() + inbox);
  DISTC_ASSIGN(result.host_,
               Memory::allocate(Memory::Kind::Pinned, sizeof(ExchangeHost), what + ": messages of peers"));
  hostOf(result.host_) = {};
  exchange.host = &hostOf(result.host_);
  DISTC_ASSIGN(const std::vector<Card> cards, tellAll(tell, mine));

  uint32_t reached = 1;
  for (uint32_t m = 0; m < members && reached; ++m) {
    void *at = nullptr;
    if (cards[m].isShared && (m == self || result.sharesProcess_))
      at = cards[m].inbox;
    else if (cards[m].isShared && succeeded(cudaIpcOpenMemHandle(&at, cards[m].handle, cudaIpcMemLazyEnablePeerAccess)))
      result.opened_.push_back(at);
    exchange.inboxes[m] = at;
    reached = at != nullptr;
  }
  DISTC_ASSIGN(const std::vector<uint32_t> answers, tellAll(tell, reached));
  if (std::ranges::count(answers, 0u) == 0)
    result.exchange_ = exchange;
  else
    result.close(true); // nobody writes
  return result;
}

bool PeerExchange::mayQueue(void *stream) const {
  return !sharesProcess_ || isCaptured(static_cast<cudaStream_t>(stream));
}

bool PeerExchange::takes(plan::Op op, size_t count, plan::DType dtype) const {
  if (!isUsable() || count == 0 || count * dtypeBytes(dtype) > size_t(maxExchangeBytes))
    return false;
  return op == plan::Op::AllReduce ? dtype <= plan::DType::BF16
                                   : op == plan::Op::AllGather && dtypeBytes(dtype) == sizeof(uint32_t);
}

Status PeerExchange::allReduce(const CommCall &call, const void *in, void *out, size_t count, plan::DType dtype,
                               plan::ReduceOp op) {
  const Type type = typeOf(dtype);
  return check(exchangeReduce(exchange_, ExchangePart::Both, op == plan::ReduceOp::Sum ? ReduceOp::Sum : ReduceOp::Max,
                              {in, type}, static_cast<int64_t>(count), {out, type}, noteOf(call, "all_reduce"),
                              static_cast<cudaStream_t>(call.stream)),
               "exchange with peers");
}

Status PeerExchange::allGather(const CommCall &call, const void *in, size_t inCount, void *out, size_t outCount) {
  return check(exchangeGather(exchange_, ExchangePart::Both, in, static_cast<int64_t>(inCount), out,
                              static_cast<int64_t>(outCount), noteOf(call, "all_gather"),
                              static_cast<cudaStream_t>(call.stream)),
               "exchange with peers");
}

uint32_t PeerExchange::noteOf(const CommCall &call, const char *op) {
  const uint32_t note = call.instruction + 1; // 0 is none
  made_.insert_or_assign(note, Made{call, op});
  return note;
}

const PeerExchange::Made *PeerExchange::waiting() const {
  if (!isUsable())
    return nullptr;
  const auto found = made_.find(std::atomic_ref(hostOf(host_).waiting).load(std::memory_order_relaxed));
  return found == made_.end() ? nullptr : &found->second;
}

void PeerExchange::abort() {
  if (isUsable())
    std::atomic_ref(hostOf(host_).abort).store(1, std::memory_order_relaxed);
}

void PeerExchange::close(bool endedWell) {
  if (!endedWell || !opened_.empty()) // a process that has this member's memory mapped may not have closed it
    inbox_.release();
  for (void *memory : std::exchange(opened_, {}))
    (void)succeeded(cudaIpcCloseMemHandle(memory));
  inbox_ = {};
  host_ = {};
  exchange_ = {};
}

} // namespace distc::cuda
