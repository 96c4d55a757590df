// One plan: its programs. Buffers lie in the arena, indices are in range, events are signalled once and before they are
// waited for, and the operands of each instruction agree in rows, width and dtype (Shapes.cpp).
#include "runtime/schema/PlanFile.h"
#include "runtime/verify/Rows.h"
#include "runtime/verify/Shapes.h"

#include <unordered_map>
#include <unordered_set>

namespace distc::verify {

namespace {

// More chunks than this are no use to anyone, and would make the pairwise proofs slow.
constexpr unsigned kMaxChunks = 1024;
// Chunks and reshapes of one buffer; each read looks at all of them.
constexpr uint32_t kMaxParts = 4 * kMaxChunks;
// A rank has threads for each.
constexpr unsigned kMaxMicroBatches = 256;

class ProgramCheck {
public:
  ProgramCheck(const ProgramRef &ref, std::unordered_set<uint32_t> &ids, Reporter &reporter)
      : ref_(ref), program_(ref.program), ids_(ids), reporter_(reporter) {}

  void run() {
    size_t before = reporter_.count();
    header();
    for (uint32_t i = 0; i < program_.buffers()->size() && reporter_.count() == before; ++i)
      buffer(i);
    if (reporter_.count() != before)
      return;
    events_.assign(program_.events(), kUnsignalled);
    for (size_t i = 0; i < program_.instructions()->size() && !reporter_.full(); ++i)
      if (indices(i)) {
        events(i);
        checkShapes(ref_, i, reporter_);
      }
    const bool communicates =
        std::ranges::any_of(*program_.instructions(), [](const plan::Instruction *it) { return it->queue() == 1; });
    if (reporter_.count() == before && program_.queues() != (communicates ? 2 : 1))
      fail("queue", cat(ref_.text(), ": ", unsigned(program_.queues()), " queues, expected ", communicates ? 2 : 1,
                        ": one for computation, and one for communication where there is any"));
    for (uint32_t event = 0; event < events_.size() && reporter_.count() == before; ++event)
      if (events_[event] == kUnsignalled)
        fail("event", cat(ref_.text(), ": event ", event, " is never signalled"));
  }

private:
  static constexpr uint32_t kUnsignalled = ~0u;

  void fail(const char *kind, std::string message, std::vector<uint32_t> ids = {}) {
    reporter_.add(kind, std::move(message), {ref_.rank()}, std::move(ids));
  }
  void failAt(const char *kind, size_t i, std::string message) {
    fail(kind, cat(ref_.text(i), ": ", message), {ref_.instruction(i).id()});
  }

  void header() {
    const plan::Limits &limits = *ref_.plan.limits();
    const plan::Program &p = program_;
    if (p.regime() > plan::Regime::MAX || p.queues() < 1 || p.queues() > 2 || p.micro_batches() == 0 ||
        p.micro_batches() > kMaxMicroBatches || p.events() > p.instructions()->size())
      return fail("limits",
                  cat(ref_.text(), ": regime ", unsigned(p.regime()), ", ", unsigned(p.queues()), " queues, ",
                      p.micro_batches(), " micro-batches, ", p.events(), " events of ", p.instructions()->size(),
                      " instructions: expected a known regime, 1 or 2 queues, 1 to ", kMaxMicroBatches,
                      " micro-batches, and no more events than instructions"));
    if (p.regime() == plan::Regime::Prefill && p.max_sequences() < std::min(limits.max_batch(), p.max_tokens()))
      fail("limits", cat(ref_.text(), ": takes ", p.max_sequences(), " sequences, expected ",
                         std::min(limits.max_batch(), p.max_tokens())));
    if (p.micro_batches() > 1 && p.arena_bytes() % 16 != 0)
      fail("limits", cat(ref_.text(), ": an arena of ", p.arena_bytes(),
                         " bytes for each micro-batch, expected a multiple of 16"));
    if (p.max_tokens() == 0 || p.max_sequences() == 0 || p.max_outputs() == 0 || p.max_tokens() > limits.max_tokens() ||
        p.max_sequences() > limits.max_batch() || p.max_outputs() > p.max_tokens() ||
        (p.regime() == plan::Regime::Decode &&
         (p.max_tokens() != p.max_sequences() || p.max_tokens() != p.max_outputs())))
      fail("limits", cat(ref_.text(), ": ", p.max_tokens(), " tokens, ", p.max_sequences(), " sequences, ",
                         p.max_outputs(), " outputs; expected 1 to ", limits.max_tokens(), " tokens, 1 to ",
                         limits.max_batch(), " sequences, outputs up to the tokens, all equal in a decode program"));
    if ((p.values() && p.values()->size() != p.buffers()->size()) ||
        (p.labels() && p.labels()->size() != p.instructions()->size()))
      fail("index-range", cat(ref_.text(), ": expected one value for each of ", p.buffers()->size(),
                              " buffers and one label for each of ", p.instructions()->size(), " instructions"));
  }

  void buffer(uint32_t i) {
    const plan::Buffer &b = ref_.buffer(i);
    std::string name = cat(ref_.text(), ": ", ref_.value(i));
    if (b.rows() > plan::RowUnit::MAX || b.dtype() > plan::DType::I32 || b.row_elements() == 0 || b.times() == 0 ||
        b.shards() == 0 || b.chunks() == 0 || b.chunks() > kMaxChunks || b.chunk() >= b.chunks())
      return fail("buffer-size", cat(name, ": rows unit ", unsigned(b.rows()), " x ", b.times(), " / ", b.shards(),
                                     ", chunk ", b.chunk(), " of ", b.chunks(), ", ", b.row_elements(),
                                     " elements of dtype ", unsigned(b.dtype()), ": not a buffer"));
    if (b.parent() >= 0)
      return child(i, b, name);
    if (b.parent() != -1)
      return fail("buffer-parent", cat(name, ": parent ", b.parent(), ", expected a buffer or -1"));
    uint64_t row = uint64_t(b.row_elements()) * dtypeBytes(b.dtype());
    uint64_t bytes = saturatingMul(maxRows(program_, rowsOf(program_, b)), row);
    if (b.bytes() != bytes)
      fail("buffer-size", cat(name, ": ", b.bytes(), " bytes, expected ", bytes, " for the largest batch"));
    if (b.offset() % 16 != 0 || saturatingAdd(b.offset(), b.bytes()) > program_.arena_bytes())
      fail("buffer-bounds", cat(name, ": bytes ", b.offset(), " to ", saturatingAdd(b.offset(), b.bytes()),
                                "; expected a multiple of 16 and an end within the arena of ", program_.arena_bytes()));
  }

  /// A chunk of the parent's rows, or all of it in another shape.
  void child(uint32_t i, const plan::Buffer &b, const std::string &name) {
    if (uint64_t(b.parent()) >= program_.buffers()->size() || uint32_t(b.parent()) == i ||
        ref_.buffer(b.parent()).parent() != -1)
      return fail("buffer-parent", cat(name, ": parent ", b.parent(), " of ", program_.buffers()->size(),
                                       " buffers, expected one that owns its memory"));
    if (++parts_[b.parent()] > kMaxParts)
      return fail("buffer-parent",
                  cat(name, ": its parent ", ref_.value(b.parent()), " has more than ", kMaxParts, " parts"));
    const plan::Buffer &parent = ref_.buffer(b.parent());
    bool sameUnit = b.rows() == parent.rows() && b.shards() == parent.shards() && b.dtype() == parent.dtype();
    bool chunk = parent.chunks() == 1 && b.times() == parent.times() && b.row_elements() == parent.row_elements();
    bool reshape = b.chunks() == 1 && parent.chunks() == 1 && b.shards() == 1 &&
                   uint64_t(b.times()) * b.row_elements() == uint64_t(parent.times()) * parent.row_elements();
    if (!sameUnit || (!chunk && !reshape))
      fail("buffer-parent", cat(name, ": rows x ", b.times(), " / ", b.shards(), " of ", b.row_elements(), " ",
                                plan::EnumNameDType(b.dtype()), " is neither a chunk nor a reshape of its parent ",
                                ref_.value(b.parent()), ", rows x ", parent.times(), " / ", parent.shards(), " of ",
                                parent.row_elements(), " ", plan::EnumNameDType(parent.dtype())));
  }

  bool indices(size_t i) {
    const plan::Instruction &it = ref_.instruction(i);
    size_t before = reporter_.count();
    if (!isKnownOp(it.op_type()) || it.queue() >= program_.queues()) {
      failAt(
          "index-range", i,
          cat("op ", unsigned(it.op_type()), " on queue ", unsigned(it.queue()), " of ", unsigned(program_.queues())));
      return false;
    }
    const unsigned queue = operandsOf(it).group >= 0 ? 1 : 0;
    if (it.queue() != queue)
      failAt("queue", i,
             cat("on queue ", unsigned(it.queue()), ", expected ", queue, ": ",
                 queue == 1 ? "communication" : "what computes", " has a queue of its own"));
    if (!ids_.insert(it.id()).second)
      failAt("index-range", i, "another instruction of the plan has the same id");
    auto within = [&](const char *what, int64_t index, size_t size) {
      if (index != -1 && (index < 0 || uint64_t(index) >= size))
        failAt("index-range", i, cat(what, " ", index, " of ", size));
    };
    Operands operands = operandsOf(it);
    for (const BufferOperand &operand : operands.buffers())
      within(operand.name, operand.buffer, program_.buffers()->size());
    within("weight", operands.weight, ref_.plan.weights()->size());
    within("bias", operands.bias, ref_.plan.weights()->size());
    within("cache", operands.cache, ref_.plan.kv()->caches()->size());
    within("rope table", operands.table, ref_.plan.rope_tables()->size());
    within("group", operands.group, ref_.plan.groups()->size());
    if (operands.peer != -1 && reporter_.count() == before) {
      const auto &ranks = *ref_.plan.groups()->Get(static_cast<uint32_t>(operands.group))->ranks();
      within("peer", operands.peer, ranks.size());
      if (uint64_t(operands.peer) < ranks.size() && ranks.Get(static_cast<uint32_t>(operands.peer)) == ref_.rank())
        failAt("index-range", i, "the peer is this rank itself");
    }
    return reporter_.count() == before;
  }

  void events(size_t i) {
    const plan::Instruction &it = ref_.instruction(i);
    if (it.waits())
      for (uint32_t event : *it.waits())
        if (event >= events_.size() || events_[event] == kUnsignalled)
          failAt("event", i,
                 cat("waits for event ", event, " of ", events_.size(), ", which no instruction before it signals"));
    if (it.signal() == -1)
      return;
    if (it.signal() < 0 || uint64_t(it.signal()) >= events_.size())
      return failAt("event", i, cat("signals event ", it.signal(), " of ", events_.size()));
    uint32_t &signaller = events_[static_cast<size_t>(it.signal())];
    if (signaller != kUnsignalled)
      return failAt("event", i, cat("signals event ", it.signal(), ", as ", ref_.text(signaller), " does"));
    signaller = static_cast<uint32_t>(i);
  }

  const ProgramRef &ref_;
  const plan::Program &program_;
  std::unordered_set<uint32_t> &ids_;
  Reporter &reporter_;
  std::vector<uint32_t> events_;                // who signals each
  std::unordered_map<int32_t, uint32_t> parts_; // by parent: how many
};

} // namespace

void checkPrograms(const plan::Plan &plan, Reporter &reporter) {
  std::unordered_set<uint32_t> ids;
  uint64_t decode = 0, prefill = 0; // the most that a step takes
  for (size_t p = 0; p < plan.programs()->size() && !reporter.full(); ++p) {
    const plan::Program &program = *plan.programs()->Get(static_cast<flatbuffers::uoffset_t>(p));
    ProgramRef ref{plan, program, p};
    ProgramCheck(ref, ids, reporter).run();
    uint64_t &largest = program.regime() == plan::Regime::Decode ? decode : prefill;
    largest = std::max(largest, uint64_t(program.max_tokens()) * program.micro_batches());
  }
  uint32_t rank = plan.mesh()->rank(), batch = std::min(plan.limits()->max_batch(), plan.limits()->max_tokens());
  if (decode < batch || prefill < plan.limits()->max_tokens())
    reporter.add("limits",
                 cat("rank ", rank, ": the largest decode program takes ", decode, " sequences, expected ", batch,
                     "; the largest prefill program takes ", prefill, " tokens, expected ",
                     plan.limits()->max_tokens()),
                 {rank});
}

} // namespace distc::verify
