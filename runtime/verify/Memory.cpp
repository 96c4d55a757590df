// One plan: memory over time, in every order that queues and events allow. Each value is written before it is read, two
// accesses to the same bytes are ordered if one of them writes, and a value's memory is given to another only after its
// last reader. A program with a tile schedule is proven twice: instruction by instruction, and with each stage as one.
// "Before" means happens-before: queue order and events, as vector clocks (Lamport 1978, Mattern 1989).
#include "runtime/schema/PlanFile.h"
#include "runtime/verify/Rows.h"
#include "runtime/verify/Stages.h"

#include "runtime/verify/Report.h"

#include <algorithm>
#include <map>

namespace distc::verify {

namespace {

// A value written more often than this is refused: the proof below compares each write with each access.
constexpr size_t kMaxWrites = 1024;

using Clock = std::array<int64_t, 2>; // by queue: position of the last instruction that is done; -1: none

void join(Clock &a, const Clock &b) {
  for (size_t q = 0; q < a.size(); ++q)
    a[q] = std::max(a[q], b[q]);
}

struct Access {
  uint32_t instruction; // of a stage: its last
  uint32_t origin;      // whose operand it is
  bool write;
  uint32_t chunk, chunks;

  bool whole() const { return chunks == 1; }
  bool disjoint(const Access &other) const { return chunks == other.chunks && chunk != other.chunk; }
};

/// The life of one value that owns memory, its chunks included.
struct Life {
  std::vector<Access> accesses;         // in program order
  Clock last = {-1, -1};                // by queue: the position of its last access
  Clock start = {INT64_MAX, INT64_MAX}; // what is done before every one of its accesses
  std::vector<uint32_t> aliases;        // values that it took its memory over from, in place
  bool begun = false;
};

class MemoryCheck {
public:
  /// `asStages`: those of the program's schedule are done as one.
  MemoryCheck(const ProgramRef &ref, bool asStages, Reporter &reporter)
      : ref_(ref), program_(ref.program), reporter_(reporter), kept_(ref.program.buffers()->size(), false) {
    for (uint32_t i = 0; i < size(); ++i)
      unit_.push_back({i, i});
    if (!asStages)
      return;
    for (const plan::StageTiles *tiles : *program_.schedule()->stages()) {
      std::string why;
      const std::optional<TileStage> stage = stageOf(ref_.plan, program_, *tiles, why); // the schedule has been proven
      for (uint32_t i = stage->first; i < stage->first + stage->count; ++i) {
        unit_[i] = {stage->first, stage->first + stage->count - 1};
        const Operands operands = operandsOf(ref_.instruction(i));
        for (const BufferOperand &operand : operands.buffers())
          if (operand.write &&
              std::find(stage->outputs.begin(), stage->outputs.end(), operand.buffer) == stage->outputs.end())
            kept_[operand.buffer] = true;
      }
    }
  }

  void run() {
    computeClocks();
    collect();
    for (uint32_t value = 0; value < lives_.size() && !reporter_.full(); ++value)
      checkValue(value);
    for (uint32_t i = 0; i < size() && !reporter_.full(); ++i) {
      const Operands operands = operandsOf(ref_.instruction(i));
      for (const BufferOperand &operand : operands.buffers())
        if (operand.write && !kept_[operand.buffer])
          occupy(ref_.root(operand.buffer));
    }
    checkCaches();
  }

private:
  uint32_t size() const { return program_.instructions()->size(); }
  uint8_t queue(uint32_t i) const { return ref_.instruction(i).queue(); }
  bool before(uint32_t a, uint32_t b) const { return position_[a] <= before_[b][queue(a)]; }
  bool ordered(uint32_t a, uint32_t b) const { return before(a, b) || before(b, a); }

  void fail(const char *kind, std::string message, std::vector<uint32_t> instructions) {
    for (uint32_t &i : instructions)
      i = ref_.instruction(i).id();
    reporter_.add(kind, std::move(message), {ref_.rank()}, std::move(instructions));
  }
  std::string brief(uint32_t i) const {
    const plan::Instruction &it = ref_.instruction(i);
    return cat("instruction ", it.id(), " (", plan::EnumNameOp(it.op_type()), ", queue ", unsigned(it.queue()), ")");
  }

  void computeClocks() {
    before_.resize(size());
    position_.resize(size());
    std::array<Clock, 2> done = {Clock{-1, -1}, Clock{-1, -1}};
    std::array<int64_t, 2> next = {0, 0};
    std::vector<Clock> events(program_.events(), Clock{-1, -1});
    for (uint32_t i = 0; i < size(); ++i) {
      const plan::Instruction &it = ref_.instruction(i);
      Clock clock = done[it.queue()];
      if (it.waits())
        for (uint32_t event : *it.waits())
          join(clock, events[event]);
      before_[i] = clock;
      position_[i] = next[it.queue()]++;
      clock[it.queue()] = position_[i];
      done[it.queue()] = clock;
      if (it.signal() >= 0)
        events[static_cast<size_t>(it.signal())] = clock;
    }
    for (uint32_t i = 0; i < size(); ++i)
      before_[unit_[i].second] = before_[unit_[i].first]; // nothing of a stage is done when it starts
  }

  void collect() {
    lives_.resize(program_.buffers()->size());
    caches_.resize(ref_.plan.kv()->caches()->size());
    for (uint32_t i = 0; i < size(); ++i) {
      Operands operands = operandsOf(ref_.instruction(i));
      const uint32_t unit = unit_[i].second;
      for (const BufferOperand &operand : operands.buffers()) {
        if (kept_[operand.buffer])
          continue;
        const plan::Buffer &buffer = ref_.buffer(operand.buffer);
        Life &life = lives_[ref_.root(operand.buffer)];
        // A stage's norm has the sum that begins the stage from itself; nothing else reads what its stage wrote.
        if (!operand.write && !life.accesses.empty() && life.accesses.back().write &&
            life.accesses.back().instruction == unit && life.accesses.back().origin != i)
          continue;
        life.accesses.push_back({unit, i, operand.write, buffer.chunk(), buffer.chunks()});
        life.last[queue(i)] = position_[unit];
        for (size_t q = 0; q < life.start.size(); ++q)
          life.start[q] = std::min(life.start[q], before_[unit][q]);
      }
      if (operands.cache >= 0) {
        const plan::Buffer &rows = ref_.buffer(operands.list[0].buffer);
        caches_[static_cast<size_t>(operands.cache)].push_back(
            {unit, i, ref_.instruction(i).op_type() == plan::Op::KvAppend, rows.chunk(), rows.chunks()});
      }
    }
  }

  /// Does one instruction read and write in place, alone or as the last of its stage, whose others are done before?
  bool inPlace(const Access &write, const Access &read) const {
    return write.origin == read.origin && write.origin == write.instruction &&
           isInPlaceOp(ref_.instruction(write.origin).op_type());
  }

  /// Reads see what was written, and nothing races.
  void checkValue(uint32_t value) {
    const std::vector<Access> &accesses = lives_[value].accesses;
    std::vector<const Access *> writes;
    for (const Access &access : accesses)
      if (access.write)
        writes.push_back(&access);
    if (writes.size() > kMaxWrites)
      return fail("unordered-access",
                  cat(ref_.text(), ": ", ref_.value(value), " is written by ", writes.size(),
                      " instructions, expected at most ", kMaxWrites),
                  {});
    for (const Access &access : accesses) {
      for (const Access *write : writes) {
        if (write->disjoint(access))
          continue;
        if (write->instruction == access.instruction) {
          if (!access.write && !inPlace(*write, access))
            return fail("in-place",
                        cat(ref_.text(access.instruction), ": reads and writes ", ref_.value(value),
                            ", which this op cannot do in place"),
                        {access.instruction});
        } else if (!ordered(write->instruction, access.instruction)) {
          return fail("unordered-access",
                      cat(ref_.text(), ": ", ref_.value(value), " is written by ", brief(write->instruction), " and ",
                          access.write ? "written" : "read", " by ", brief(access.instruction),
                          ", which nothing puts in an order: expected an event between them"),
                      {write->instruction, access.instruction});
        }
      }
      if (!access.write && !written(writes, access))
        return fail("read-before-write",
                    cat(ref_.text(access.instruction), ": reads ", ref_.value(value),
                        access.whole() ? std::string() : cat(", chunk ", access.chunk, " of ", access.chunks),
                        ", which is not, or not all, written before"),
                    {access.instruction});
    }
  }

  /// Is all that the access reads written before it: as a whole, as the same chunk, or as all chunks of some number?
  bool written(const std::vector<const Access *> &writes, const Access &read) const {
    std::map<uint32_t, std::vector<bool>> seen;
    for (const Access *write : writes) {
      if (write->instruction == read.instruction || !before(write->instruction, read.instruction))
        continue;
      if (write->whole() || (write->chunk == read.chunk && write->chunks == read.chunks))
        return true;
      std::vector<bool> &chunks = seen[write->chunks];
      chunks.resize(write->chunks);
      chunks[write->chunk] = true;
    }
    return std::any_of(seen.begin(), seen.end(), [](const auto &entry) {
      return std::find(entry.second.begin(), entry.second.end(), false) == entry.second.end();
    });
  }

  /// The value takes its bytes from whoever had them last: all that is done with those must be over. Owners before the
  /// last one follow: they were over when the last one began.
  void occupy(uint32_t value) {
    Life &life = lives_[value];
    if (life.begun)
      return;
    life.begun = true;
    uint64_t begin = ref_.buffer(value).offset(), end = begin + ref_.buffer(value).bytes();
    auto it = owners_.upper_bound(begin);
    if (it != owners_.begin() && std::prev(it)->second.first > begin)
      --it;
    std::vector<uint32_t> previous;
    while (it != owners_.end() && it->first < end) {
      auto [first, owner] = *it;
      previous.push_back(owner.second);
      it = owners_.erase(it);
      if (first < begin)
        owners_[first] = {begin, owner.second};
      if (owner.first > end)
        it = owners_.insert({end, owner}).first;
    }
    owners_[begin] = {end, value};
    std::sort(previous.begin(), previous.end());
    previous.erase(std::unique(previous.begin(), previous.end()), previous.end());
    for (uint32_t owner : previous)
      if (!takeOver(owner, value))
        return;
  }

  bool takeOver(uint32_t owner, uint32_t value) {
    Life &a = lives_[owner], &b = lives_[value];
    if (isOver(a.last, b.start))
      return true;
    std::vector<uint32_t> sharing = a.aliases;
    sharing.push_back(owner);
    for (uint32_t each : sharing) {
      Clock last = ownLast(lives_[each]);
      if (isOver(last, b.start))
        continue;
      if (!takeOverPairwise(each, value))
        return false;
      // Whoever takes this memory next must also wait for those who share it now.
      join(b.last, last);
      b.aliases.push_back(each);
    }
    return true;
  }

  static bool isOver(const Clock &last, const Clock &start) { return last[0] <= start[0] && last[1] <= start[1]; }
  /// The last access, without what the value inherited.
  Clock ownLast(const Life &life) const {
    Clock last = {-1, -1};
    for (const Access &access : life.accesses)
      last[queue(access.instruction)] = std::max(last[queue(access.instruction)], position_[access.instruction]);
    return last;
  }

  /// In place: the instruction that reads the last of `owner` writes the same rows of `value`.
  bool takeOverPairwise(uint32_t owner, uint32_t value) {
    const plan::Buffer &from = ref_.buffer(owner), &to = ref_.buffer(value);
    bool aligned = from.offset() == to.offset() && rowsOf(program_, from) == rowsOf(program_, to) &&
                   from.row_elements() == to.row_elements() && dtypeBytes(from.dtype()) == dtypeBytes(to.dtype());
    for (const Access &a : lives_[owner].accesses)
      for (const Access &b : lives_[value].accesses) {
        if (before(a.instruction, b.instruction) || (aligned && a.disjoint(b)))
          continue;
        if (!a.write && b.write && aligned && a.chunk == b.chunk && a.chunks == b.chunks && inPlace(b, a))
          continue;
        std::string where = cat("bytes ", from.offset(), " to ", from.offset() + from.bytes(), " and ", to.offset(),
                                " to ", to.offset() + to.bytes());
        if (a.instruction == b.instruction)
          fail("in-place",
               cat(ref_.text(a.instruction), ": reads ", ref_.value(owner), " and writes ", ref_.value(value), " at ",
                   where, ", which this op cannot do in place or only on the very same rows"),
               {a.instruction});
        else
          fail("buffer-overlap",
               cat(ref_.text(), ": ", ref_.value(owner), " and ", ref_.value(value), " overlap at ", where, ", and ",
                   brief(a.instruction), " need not be done with the first before ", brief(b.instruction),
                   " uses the second"),
               {a.instruction, b.instruction});
        return false;
      }
    return true;
  }

  /// Attention over a chunk needs the keys and values of that chunk and of all chunks before it.
  void checkCaches() {
    for (size_t cache = 0; cache < caches_.size() && !reporter_.full(); ++cache) {
      uint32_t layer = ref_.plan.kv()->caches()->Get(static_cast<uint32_t>(cache))->layer();
      std::vector<const Access *> appends;
      std::vector<std::pair<uint32_t, uint32_t>> parts;
      for (const Access &access : caches_[cache])
        if (access.write) {
          appends.push_back(&access);
          parts.emplace_back(access.chunks, access.chunk);
        }
      std::sort(parts.begin(), parts.end());
      bool once = !parts.empty() && parts.size() == parts[0].first;
      for (size_t i = 0; once && i < parts.size(); ++i)
        once = parts[i].first == parts.size() && parts[i].second == i;
      if (!once) {
        fail("kv-order",
             cat(ref_.text(), ": the keys and values of layer ", layer, " are appended by ", appends.size(),
                 " instructions, expected each token's exactly once"),
             {});
        continue;
      }
      size_t attentions = 0;
      for (const Access &read : caches_[cache]) {
        attentions += !read.write;
        for (const Access *append : appends) {
          bool later = append->chunks == read.chunks && append->chunk > read.chunk;
          if (!read.write && !later && !before(append->instruction, read.instruction))
            fail("kv-order",
                 cat(ref_.text(read.instruction), ": reads the cache of layer ", layer, ", but ",
                     brief(append->instruction), " need not have appended to it before"),
                 {append->instruction, read.instruction});
        }
      }
      if (attentions == 0)
        fail("kv-order", cat(ref_.text(), ": nothing reads the cache of layer ", layer), {});
    }
  }

  const ProgramRef &ref_;
  const plan::Program &program_;
  Reporter &reporter_;
  std::vector<std::pair<uint32_t, uint32_t>> unit_; // by instruction: the first and last of its stage
  std::vector<bool> kept_;                          // by buffer: a stage has it, memory has not
  std::vector<Clock> before_;                       // by instruction: what is done when it starts
  std::vector<int64_t> position_;                   // by instruction: in its queue
  std::vector<Life> lives_;                         // by buffer
  std::vector<std::vector<Access>> caches_;
  std::map<uint64_t, std::pair<uint64_t, uint32_t>> owners_; // begin → (end, value): who had these bytes last
};

} // namespace

void checkMemory(const plan::Plan &plan, Reporter &reporter) {
  for (size_t p = 0; p < plan.programs()->size() && !reporter.full(); ++p) {
    ProgramRef ref{plan, *plan.programs()->Get(static_cast<flatbuffers::uoffset_t>(p)), p};
    MemoryCheck(ref, false, reporter).run();
    if (ref.program.schedule())
      MemoryCheck(ref, true, reporter).run();
  }
}

} // namespace distc::verify
