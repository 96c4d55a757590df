#include "runtime/backends/cuda/PeerExchange.h"

#include "runtime/backends/cuda/CudaBackend.h"
#include "runtime/comm/Socket.h"
#include "runtime/schema/PlanFile.h"

#include <atomic>
#include <cstring>
#include <random>

namespace distc::cuda {

namespace {

// What a member tells of its memory.
struct Card {
  uint64_t process; // the same in all ranks of one, and in no other
  char host[256];
  uint64_t exported;
  cudaIpcMemHandle_t handle;
};
static_assert(sizeof(Card) % sizeof(float) == 0); // it travels as those

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

template <typename T> std::span<const std::byte> bytesOf(const T &value) { return std::as_bytes(std::span(&value, 1)); }

ExchangeHost &hostOf(const Memory &memory) { return *reinterpret_cast<ExchangeHost *>(memory.data()); }

} // namespace

Result<PeerExchange> PeerExchange::connect(uint32_t members, uint32_t self, const Tell &tell, const std::string &what) {
  PeerExchange result;
  Exchange exchange{};
  if (members > maxPeers)
    return result;
  exchange.members = static_cast<int>(members);
  exchange.self = static_cast<int>(self);
  // A page of the device at least: a handle gives others all of the page that it is in.
  constexpr size_t kPage = 2 << 20, kCounts = 256;
  const size_t inbox = static_cast<size_t>(inboxBytes(exchange.members)),
               bytes = (inbox + kCounts + kPage - 1) / kPage * kPage;
  DISTC_ASSIGN(result.inbox_, Memory::allocate(Memory::Kind::Device, bytes, what + ": messages of peers"));
  DISTC_ASSIGN(result.host_,
               Memory::allocate(Memory::Kind::Pinned, sizeof(ExchangeHost), what + ": messages of peers"));
  hostOf(result.host_) = {};
  exchange.host = &hostOf(result.host_);
  exchange.calls = reinterpret_cast<uint32_t *>(result.inbox_.data() + inbox);
  DISTC_TRY(check(cudaMemset(result.inbox_.data(), 0, bytes), "clear the messages of peers"));
  DISTC_TRY(check(cudaDeviceSynchronize(), "clear the messages of peers"));

  Card mine{};
  mine.process = thisProcess();
  hostName().copy(mine.host, sizeof(mine.host) - 1);
  mine.exported = succeeded(cudaIpcGetMemHandle(&mine.handle, result.inbox_.data()));
  DISTC_ASSIGN(const std::vector<std::byte> cards, tell(bytesOf(mine)));

  uint32_t reached = 1;
  for (uint32_t m = 0; m < members && reached; ++m) {
    Card card;
    std::memcpy(&card, cards.data() + m * sizeof(card), sizeof(card));
    void *at = nullptr;
    if (m == self)
      at = result.inbox_.data();
    else if (card.process != mine.process && card.exported &&
             std::strncmp(card.host, mine.host, sizeof(card.host)) == 0 &&
             succeeded(cudaIpcOpenMemHandle(&at, card.handle, cudaIpcMemLazyEnablePeerAccess)))
      result.opened_.push_back(at);
    exchange.inboxes[m] = at;
    reached = at != nullptr;
  }
  DISTC_ASSIGN(const std::vector<std::byte> answers, tell(bytesOf(reached)));
  for (uint32_t m = 0; m < members; ++m) {
    uint32_t answer;
    std::memcpy(&answer, answers.data() + m * sizeof(answer), sizeof(answer));
    reached = reached && answer;
  }
  if (reached)
    result.exchange_ = exchange;
  else
    result.close(true); // nobody writes
  return result;
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
