#include "compiler/Analysis/StepSimulator.h"

#include "runtime/schema/PlanFile.h"
#include "runtime/verify/Operands.h"

#include <algorithm>
#include <queue>
#include <tuple>

namespace distc {

namespace {

constexpr uint32_t kNone = UINT32_MAX;

// A collective, or a send with its receive: one for all who take part in it.
struct Channel {
  const LinkTier *tier = nullptr;
  uint32_t members = 0; // nodes
  uint64_t ranks = 0;
};

struct NodeProgram {
  const plan::Program *program = nullptr;
  std::vector<uint32_t> queues[2]; // instructions of each, in order
  std::vector<uint32_t> channelOf; // by instruction; kNone: it computes
  std::vector<uint32_t> after;     // by place in queue 0: the place that the micro-batch before must have passed
  uint32_t comesBack = 0;          // the last receive from another stage; none: as many instructions as there are
  uint32_t before[2] = {0, 0};     // of each queue, how many instructions stand in front of it
};

// Attention reads all keys and values that the micro-batch before appends to its cache.
std::vector<uint32_t> afterOf(const NodeProgram &program) {
  std::map<uint32_t, uint32_t> appended; // cache: the last place that appends to it
  const auto at = [&](uint32_t place) { return program.program->instructions()->Get(program.queues[0][place]); };
  for (uint32_t place = 0; place < program.queues[0].size(); ++place)
    if (const plan::KvAppend *append = at(place)->op_as_KvAppend())
      appended[append->cache()] = place;
  std::vector<uint32_t> after;
  for (uint32_t place = 0; place < program.queues[0].size(); ++place) {
    const plan::Attention *attention = at(place)->op_as_Attention();
    const auto last = attention ? appended.find(attention->cache()) : appended.end();
    after.push_back(last == appended.end() ? place : std::max(place, last->second));
  }
  return after;
}

// What a plan costs and with whom it talks, for comparing ranks: equal texts cost the same at all times.
std::string fingerprint(const Machine &machine, const plan::Plan &plan) {
  std::string text;
  const auto add = [&](const auto &value) { text.append(reinterpret_cast<const char *>(&value), sizeof value); };
  for (const plan::Weight *weight : *plan.weights()) {
    add(weight->bytes());
    add(weight->dtype());
  }
  for (const plan::KvCache *cache : *plan.kv()->caches()) {
    add(cache->heads());
    add(cache->head_dim());
  }
  for (const plan::Program *program : *plan.programs()) {
    add(program->regime());
    add(program->micro_batches());
    for (const plan::Buffer *buffer : *program->buffers()) {
      add(buffer->row_elements());
      for (uint16_t value : {buffer->times(), buffer->shards(), buffer->chunk(), buffer->chunks()})
        add(value);
      add(buffer->rows());
      add(buffer->dtype());
    }
    for (const plan::Instruction *instruction : *program->instructions()) {
      const Operands o = operandsOf(*instruction);
      add(instruction->op_type());
      add(instruction->queue());
      add(instruction->signal());
      for (uint32_t i = 0; instruction->waits() && i < instruction->waits()->size(); ++i)
        add(instruction->waits()->Get(i));
      for (const BufferOperand &operand : o.buffers())
        add(operand.buffer);
      for (int64_t value : {o.weight, o.cache, o.group, o.peer, o.sequence})
        add(value);
      if (const plan::Attention *attention = instruction->op_as_Attention()) {
        add(attention->heads());
        add(attention->window());
      }
      if (o.group < 0 || o.peer < 0)
        continue;
      const auto *ranks = plan.groups()->Get(static_cast<uint32_t>(o.group))->ranks();
      const uint32_t ends[] = {plan.mesh()->rank(), ranks->Get(static_cast<uint32_t>(o.peer))};
      add(ends[1] - ends[0]);
      const Result<const LinkTier *> tier = CostModel::tier(machine, ends);
      add(tier.ok() ? *tier - machine.links.data() : ptrdiff_t(-1));
    }
  }
  return text;
}

bool isSend(plan::Op op) { return op == plan::Op::Send; }

} // namespace

struct StepSimulator::State {
  const Machine *machine = nullptr;
  std::vector<Node> nodes;
  std::vector<uint32_t> nodeOf; // rank to node
  uint64_t tp = 1, pp = 1;
  struct RegimeProgram {
    uint64_t maxTokens = 0, maxSequences = 0, maxOutputs = 0, microBatches = 1;
    double footprint = 0;              // bytes of the weights that a step reads, of all ranks
    std::vector<NodeProgram> programs; // by node
    std::vector<Channel> channels;
  };
  std::vector<RegimeProgram> regimes[2];

  Status addPrograms(uint32_t index);
  double cacheBytes(const RegimeProgram &all, const std::vector<Runs> &batches) const; // that all ranks read
  Result<uint32_t> channelOf(RegimeProgram &all, std::map<std::string, uint32_t> &known, uint32_t node,
                             const plan::Instruction &instruction);
};

namespace {

// The events of one step.
class Simulation {
public:
  Simulation(const std::vector<NodeProgram> &programs, const std::vector<Channel> &channels,
             const std::vector<Node> &nodes, const CostModel &model, bool serial, const std::vector<Runs> &batches,
             std::vector<TraceEvent> *trace)
      : programs_(programs), channels_(channels), nodes_(nodes), model_(model), serial_(serial), batches_(batches),
        trace_(trace), count_(static_cast<uint32_t>(batches.size())), walks_(programs.size() * count_),
        states_(programs.size()), calls_(channels.size() * count_) {
    for (uint32_t n = 0; n < programs_.size(); ++n) {
      for (uint32_t k = 0; k < count_; ++k) {
        walk(n, k).signalled.assign(programs_[n].program->events(), 0);
        walk(n, k).left = programs_[n].program->instructions()->size();
      }
      for (uint32_t k = 0; k < count_; ++k)
        staged_[tokensOf(batches_[k])].resize(programs_.size());
      for (auto &[tokens, staged] : staged_)
        staged[n] = stagedInstructions(*programs_[n].program, tokens);
    }
  }

  Result<StepTimes> run() {
    for (uint32_t n = 0; n < programs_.size(); ++n) {
      for (uint32_t k = 0; k < count_; ++k)
        communicate(n, k);
      compute(n);
    }
    std::vector<uint32_t> changed;
    while (!events_.empty()) {
      now_ = events_.top().time;
      changed.clear();
      // All that ends now, before the lowest micro-batch is looked for.
      while (!events_.empty() && events_.top().time <= now_) {
        const Event event = events_.top();
        events_.pop();
        end(event);
        changed.push_back(event.node);
      }
      for (uint32_t node : changed)
        compute(node);
    }
    StepTimes times{now_, {}};
    for (uint32_t n = 0; n < programs_.size(); ++n) {
      for (uint32_t k = 0; k < count_; ++k)
        if (walk(n, k).left != 0)
          return internal("rank " + std::to_string(nodes_[n].ranks[0]) + ", micro-batch " + std::to_string(k) + ": " +
                          std::to_string(walk(n, k).left) + " instructions wait for ever");
      times.nodes.push_back({states_[n].busy, exposed(states_[n])});
    }
    return times;
  }

private:
  struct Walk {
    std::vector<uint8_t> signalled;
    uint32_t done[2] = {0, 0}; // instructions of each queue
    bool communicating = false;
    uint64_t left = 0;
  };
  struct NodeState {
    bool computing = false;
    uint32_t first = 0; // the lowest micro-batch that has compute instructions left
    uint32_t turn = 0;  // the micro-batch that computed last
    double busy = 0;
    std::vector<std::pair<double, double>> computes, waits; // when; of `waits` sends are none
  };
  struct Call { // of a channel, for one micro-batch
    uint32_t arrived = 0;
    double sent = -1;                                 // when the send began
    uint32_t receiver = kNone;                        // that waits
    double since = 0;                                 // since when
    std::vector<std::pair<uint32_t, double>> members; // of a collective: who is there, since when
  };
  struct Event {
    double time;
    uint64_t order; // equal times in the order of their making: the same plans give the same trace
    uint32_t node, microBatch, instruction;
    bool operator<(const Event &other) const { return std::tie(time, order) > std::tie(other.time, other.order); }
  };

  Walk &walk(uint32_t n, uint32_t k) { return walks_[size_t(n) * count_ + k]; }
  const plan::Instruction &instruction(uint32_t n, uint32_t index) const {
    return *programs_[n].program->instructions()->Get(index);
  }
  // A serial machine does of each micro-batch what stands in front of what comes back, then the rest of each.
  bool sent(uint32_t n, uint32_t k) {
    const NodeProgram &program = programs_[n];
    return walk(n, k).done[0] >= program.before[0] && walk(n, k).done[1] >= program.before[1];
  }
  bool mayStart(uint32_t n, uint32_t k, uint32_t index) {
    const Walk &w = walk(n, k);
    if (serial_ && k > 0 && !(index < programs_[n].comesBack ? sent(n, k - 1) : walk(n, k - 1).left == 0))
      return false;
    if (serial_ && index >= programs_[n].comesBack && !sent(n, count_ - 1))
      return false;
    const auto *waits = instruction(n, index).waits();
    return !waits || std::all_of(waits->begin(), waits->end(), [&](uint32_t event) { return w.signalled[event] != 0; });
  }

  // `from`: since when it is under way; the begin that a trace shows.
  void schedule(uint32_t n, uint32_t k, uint32_t index, double begin, double end, double bytes) {
    events_.push({end, order_++, n, k, index});
    if (trace_)
      trace_->push_back({n, k, programs_[n].program, index, begin, end, bytes});
  }

  void end(const Event &event) {
    Walk &w = walk(event.node, event.microBatch);
    const plan::Instruction &done = instruction(event.node, event.instruction);
    if (done.signal() >= 0)
      w.signalled[static_cast<uint32_t>(done.signal())] = 1;
    const bool communication = programs_[event.node].channelOf[event.instruction] != kNone;
    ++w.done[communication ? 1 : 0];
    --w.left;
    if (communication)
      w.communicating = false;
    else
      states_[event.node].computing = false;
    communicate(event.node, event.microBatch);
    for (uint32_t k = 0; serial_ && k < count_; ++k)
      communicate(event.node, k);
  }

  // Begins what the compute queue of a node may do next.
  void compute(uint32_t n) {
    NodeState &state = states_[n];
    const std::vector<uint32_t> &queue = programs_[n].queues[0];
    if (state.computing)
      return;
    while (state.first < count_ && walk(n, state.first).done[0] == queue.size())
      ++state.first;
    if (begin(n, state.turn))
      return;
    for (uint32_t k = state.first; k < count_; ++k)
      if (begin(n, k) || (k > 0 && walk(n, k - 1).done[0] == 0)) // then those after it have not begun either
        return;
  }

  // Whether micro-batch k has a compute instruction that may start; it does so.
  bool begin(uint32_t n, uint32_t k) {
    NodeState &state = states_[n];
    const Walk &w = walk(n, k);
    const NodeProgram &program = programs_[n];
    const uint32_t place = w.done[0];
    if (place == program.queues[0].size() || (k > 0 && walk(n, k - 1).done[0] <= program.after[place]) ||
        !mayStart(n, k, program.queues[0][place]))
      return false;
    const uint32_t index = program.queues[0][place];
    const plan::Plan &plan = *nodes_[n].plan;
    const Work work = workOf(plan, *program.program, instruction(n, index), batches_[k]);
    const double seconds = model_.compute(plan, instruction(n, index), work, staged_[tokensOf(batches_[k])][n][index]);
    state.computing = true;
    state.turn = k;
    state.busy += seconds;
    state.computes.emplace_back(now_, now_ + seconds);
    schedule(n, k, index, now_, now_ + seconds, work.bytes());
    return true;
  }

  // Begins the next communication of a micro-batch, if it may.
  void communicate(uint32_t n, uint32_t k) {
    Walk &w = walk(n, k);
    const std::vector<uint32_t> &queue = programs_[n].queues[1];
    if (w.communicating || w.done[1] == queue.size() || !mayStart(n, k, queue[w.done[1]]))
      return;
    w.communicating = true;
    const uint32_t index = queue[w.done[1]], channel = programs_[n].channelOf[index];
    const plan::Op op = instruction(n, index).op_type();
    const LinkTier &tier = *channels_[channel].tier;
    Call &call = calls_[size_t(channel) * count_ + k];
    if (op == plan::Op::Send) {
      const double bytes = messageBytes(n, k, index);
      call.sent = now_;
      schedule(n, k, index, now_, now_ + bytes / tier.bandwidth, bytes);
      if (call.receiver != kNone)
        receive(call.receiver, k, call, tier);
    } else if (op == plan::Op::Recv) {
      call.receiver = n;
      call.since = now_;
      if (call.sent >= 0)
        receive(n, k, call, tier);
    } else {
      call.members.emplace_back(n, now_);
      if (call.members.size() < channels_[channel].members)
        return;
      double bytes = 0;
      for (auto [member, since] : call.members)
        bytes = std::max(bytes, messageBytes(member, k, next(member, k)));
      const double seconds = CostModel::collective(tier, op, channels_[channel].ranks, bytes);
      for (auto [member, since] : call.members) {
        states_[member].waits.emplace_back(now_, now_ + seconds);
        schedule(member, k, next(member, k), since, now_ + seconds, bytes);
      }
    }
  }

  void receive(uint32_t n, uint32_t k, const Call &call, const LinkTier &tier) {
    const uint32_t index = next(n, k);
    const double bytes = messageBytes(n, k, index);
    const double end = std::max(now_, call.sent + tier.latency + bytes / tier.bandwidth);
    states_[n].waits.emplace_back(std::max(call.since, call.sent), end);
    schedule(n, k, index, call.since, end, bytes);
  }

  uint32_t next(uint32_t n, uint32_t k) { return programs_[n].queues[1][walk(n, k).done[1]]; }

  double messageBytes(uint32_t n, uint32_t k, uint32_t index) const {
    const plan::Instruction &i = instruction(n, index);
    const Operands operands = operandsOf(i);
    double most = 0;
    for (const BufferOperand &operand : operands.buffers()) {
      const plan::Buffer &buffer = *programs_[n].program->buffers()->Get(operand.buffer);
      most = std::max(most, bufferBytes(buffer, batches_[k]));
    }
    return most;
  }

  // Time in which something is waited for and nothing is computed.
  static double exposed(NodeState &state) {
    std::sort(state.waits.begin(), state.waits.end());
    double total = 0, until = 0;
    size_t c = 0;
    for (auto [begin, end] : state.waits) {
      begin = std::max(begin, until); // waits of several micro-batches overlap
      if (end <= begin)
        continue;
      until = end;
      total += end - begin;
      while (c < state.computes.size() && state.computes[c].second <= begin)
        ++c;
      for (size_t i = c; i < state.computes.size() && state.computes[i].first < end; ++i)
        total -= std::min(end, state.computes[i].second) - std::max(begin, state.computes[i].first);
    }
    return std::max(0.0, total);
  }

  const std::vector<NodeProgram> &programs_;
  const std::vector<Channel> &channels_;
  const std::vector<Node> &nodes_;
  const CostModel &model_;
  const bool serial_;
  const std::vector<Runs> &batches_;
  std::vector<TraceEvent> *trace_;
  const uint32_t count_;
  std::vector<Walk> walks_;
  std::vector<NodeState> states_;
  std::vector<Call> calls_;
  std::map<uint64_t, std::vector<std::vector<CostModel::Staged>>> staged_; // by the tokens of a micro-batch, by node
  std::priority_queue<Event> events_;
  uint64_t order_ = 0;
  double now_ = 0;
};

} // namespace

Result<uint32_t> StepSimulator::State::channelOf(RegimeProgram &all, std::map<std::string, uint32_t> &known,
                                                 uint32_t node, const plan::Instruction &instruction) {
  const plan::Plan &plan = *nodes[node].plan;
  const Operands o = operandsOf(instruction);
  const auto *group = plan.groups()->Get(static_cast<uint32_t>(o.group))->ranks();
  std::vector<uint32_t> ranks(group->begin(), group->end());
  std::string key = std::string(plan::EnumNameOp(instruction.op_type())) + " " +
                    plan.groups()->Get(static_cast<uint32_t>(o.group))->name()->str();
  if (o.peer >= 0) {
    const uint32_t self = plan.mesh()->rank(), peer = group->Get(static_cast<uint32_t>(o.peer));
    ranks = isSend(instruction.op_type()) ? std::vector{self, peer} : std::vector{peer, self};
    key = "message";
  }
  std::set<uint32_t> members;
  for (uint32_t rank : ranks) {
    members.insert(nodeOf[rank]);
    if (o.peer >= 0) // of ranks that are one node, each talks to its own peer
      rank = nodes[nodeOf[rank]].ranks[0];
    key += " " + std::to_string(rank);
  }
  key += " #" + std::to_string(o.sequence);
  const auto [at, added] = known.emplace(key, static_cast<uint32_t>(all.channels.size()));
  if (added) {
    DISTC_ASSIGN(const LinkTier *tier, CostModel::tier(*machine, ranks));
    all.channels.push_back({tier, static_cast<uint32_t>(members.size()), ranks.size()});
  }
  return at->second;
}

// The program of this index of all nodes: ranks choose the same one.
Status StepSimulator::State::addPrograms(uint32_t index) {
  RegimeProgram all;
  std::map<std::string, uint32_t> known;
  for (uint32_t n = 0; n < nodes.size(); ++n) {
    const plan::Program &program = *nodes[n].plan->programs()->Get(index);
    all.maxTokens = program.max_tokens();
    all.maxSequences = program.max_sequences();
    all.maxOutputs = program.max_outputs();
    all.microBatches = std::max<uint64_t>(1, program.micro_batches());
    NodeProgram &mine = all.programs.emplace_back();
    mine.program = &program;
    mine.channelOf.assign(program.instructions()->size(), kNone);
    for (uint32_t i = 0; i < mine.channelOf.size(); ++i) {
      const plan::Instruction &instruction = *program.instructions()->Get(i);
      const bool communicates = operandsOf(instruction).group >= 0;
      if (communicates) {
        DISTC_ASSIGN(mine.channelOf[i], channelOf(all, known, n, instruction));
      }
      mine.queues[communicates ? 1 : 0].push_back(i);
      // Of experts all: in a run of steps each is read at some time.
      if (instruction.op_as_Linear() || instruction.op_as_ExpertLinear())
        all.footprint +=
            double(nodes[n].ranks.size()) *
            double(nodes[n].plan->weights()->Get(static_cast<uint32_t>(operandsOf(instruction).weight))->bytes());
    }
  }
  for (NodeProgram &mine : all.programs) {
    mine.after = afterOf(mine);
    const auto &instructions = *mine.program->instructions();
    mine.comesBack = instructions.size();
    for (uint32_t i = 0; i < instructions.size(); ++i)
      if (instructions.Get(i)->op_type() == plan::Op::Recv)
        mine.comesBack = i;
    for (int queue : {0, 1})
      mine.before[queue] =
          static_cast<uint32_t>(std::lower_bound(mine.queues[queue].begin(), mine.queues[queue].end(), mine.comesBack) -
                                mine.queues[queue].begin());
  }
  const plan::Program &first = *all.programs[0].program;
  regimes[size_t(first.regime())].push_back(std::move(all));
  return {};
}

double StepSimulator::State::cacheBytes(const RegimeProgram &all, const std::vector<Runs> &batches) const {
  double bytes = 0;
  for (uint32_t n = 0; n < nodes.size(); ++n)
    for (const plan::Instruction *instruction : *all.programs[n].program->instructions())
      if (instruction->op_type() == plan::Op::Attention)
        for (const Runs &batch : batches)
          bytes += double(nodes[n].ranks.size()) *
                   workOf(*nodes[n].plan, *all.programs[n].program, *instruction, batch).cacheBytes;
  return bytes;
}

Result<StepSimulator> StepSimulator::create(const Machine &machine, std::span<const plan::Plan *const> plans) {
  auto state = std::make_unique<State>();
  state->machine = &machine;
  state->tp = plans[0]->mesh()->tp();
  state->pp = plans[0]->mesh()->pp();
  state->nodeOf.resize(plans.size());
  bool same = true;
  for (uint32_t stage = 0; stage < state->pp && same; ++stage) {
    const std::string first = fingerprint(machine, *plans[stage * state->tp]);
    for (uint32_t i = 1; i < state->tp && same; ++i)
      if (const plan::Plan *plan = plans[stage * state->tp + i]; plan != plans[stage * state->tp])
        same = fingerprint(machine, *plan) == first;
  }
  for (uint32_t rank = 0; rank < plans.size(); ++rank) {
    if (!same || rank % state->tp == 0)
      state->nodes.push_back({plans[rank], {}});
    state->nodes.back().ranks.push_back(rank);
    state->nodeOf[rank] = static_cast<uint32_t>(state->nodes.size()) - 1;
  }
  for (uint32_t i = 0; i < plans[0]->programs()->size(); ++i)
    DISTC_TRY(state->addPrograms(i));
  return StepSimulator(std::move(state));
}

StepSimulator::StepSimulator(std::unique_ptr<State> state) : state_(std::move(state)) {}
StepSimulator::StepSimulator(StepSimulator &&) noexcept = default;
StepSimulator::~StepSimulator() = default;

const std::vector<Node> &StepSimulator::nodes() const { return state_->nodes; }

StepLimits StepSimulator::limits(plan::Regime regime) const {
  StepLimits limits{0, 0, 0};
  for (const State::RegimeProgram &program : state_->regimes[size_t(regime)]) {
    limits.tokens = std::max(limits.tokens, program.maxTokens * program.microBatches);
    limits.sequences = std::max(limits.sequences, program.maxSequences * program.microBatches);
    limits.outputs = std::max(limits.outputs, program.maxOutputs); // all may fall into one micro-batch
  }
  return limits;
}

Result<StepTimes> StepSimulator::run(plan::Regime regime, const Runs &step, std::vector<TraceEvent> *trace) const {
  const State &state = *state_;
  const State::RegimeProgram *chosen = nullptr;
  for (const State::RegimeProgram &program : state.regimes[size_t(regime)])
    if (tokensOf(step) <= program.maxTokens * program.microBatches &&
        (!chosen || program.maxTokens < chosen->maxTokens))
      chosen = &program;
  if (!chosen)
    return invalidArgument("the plans have no " + std::string(plan::EnumNameRegime(regime)) + " program for " +
                           std::to_string(tokensOf(step)) + " tokens; compile with larger limits");
  const std::vector<Runs> batches = microBatches(step, chosen->microBatches);
  double footprint = chosen->footprint;
  if (state.machine->cpu && regime == plan::Regime::Decode)
    footprint += state.cacheBytes(*chosen, batches);
  // Stages without a micro-batch of their own are idle.
  const CostModel model(*state.machine, state.tp * state.pp, state.tp * std::min<uint64_t>(state.pp, batches.size()),
                        footprint);
  return Simulation(chosen->programs, chosen->channels, state.nodes, model, state.machine->serial, batches, trace)
      .run();
}

} // namespace distc
