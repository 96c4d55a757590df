// The verifier accepts a valid set, and of each of many seeded faults says what it is and where.
#include "Mutants.h"
#include "exec/TinyModel.h"

namespace distc::test {

namespace {

using testing::AllOf;
using testing::HasSubstr;

TEST(Verifier, AcceptsAValidSet) {
  for (plan::DType type : {plan::DType::F32, plan::DType::F16, plan::DType::BF16}) {
    ValidSet set(freshSeed(), type);
    EXPECT_EQ(textOf(verifyPlanSet(set.pack())), "") << EnumNameDType(type);
    for (const plan::Plan *plan : set.pack())
      EXPECT_EQ(textOf(verifyPlan(*plan)), "") << EnumNameDType(type);
  }
}

// There is no value that may have another type than it has: all others are tried. Ids are as wide as an F32, the others
// shrink, so that nothing else is wrong.
TEST(Verifier, EveryValueHasTheTypeThatItsInstructionsTake) {
  using plan::DType;
  ValidSet set(freshSeed(), DType::BF16);
  int tried = 0;
  for (uint32_t rank = 0; rank < 4; ++rank)
    for (auto &program : set.rank(rank).programs)
      for (size_t i = 0; i < program->buffers.size(); ++i)
        for (DType type : {DType::F32, DType::F16, DType::BF16, DType::I32}) {
          plan::Buffer &b = program->buffers[i];
          const plan::Buffer old = b;
          if (type == old.dtype() || dtypeBytes(type) > dtypeBytes(old.dtype()))
            continue;
          b = plan::Buffer(old.offset(), old.bytes() / dtypeBytes(old.dtype()) * dtypeBytes(type), old.row_elements(),
                           -1, old.times(), 1, 0, 1, old.rows(), type);
          EXPECT_THAT(textOf(verifyPlanSet(set.pack())), HasSubstr("dtype-mismatch"))
              << "rank " << rank << ", value " << i << ": " << EnumNameDType(old.dtype()) << " as "
              << EnumNameDType(type);
          b = old;
          ++tried;
        }
  EXPECT_GT(tried, 100);
}

TEST(Verifier, AcceptsALayerNorm) {
  ValidSet set(freshSeed());
  for (uint32_t rank = 0; rank < 4; ++rank)
    for (uint32_t program : {0u, 1u})
      toLayerNorm(set, rank, program, "norm2");
  EXPECT_EQ(textOf(verifyPlanSet(set.pack())), "");
}

TEST(Verifier, TheKvCacheMayHaveAnotherFloatType) {
  ValidSet set(freshSeed());
  plan::KvCacheT &cache = *set.rank(1).kv->caches[0];
  cache.bytes /= 2;
  cache.dtype = plan::DType::F16;
  set.rank(1).ledger->kv = cache.bytes;
  EXPECT_EQ(textOf(verifyPlanSet(set.pack())), "");
  cache.bytes *= 2;
  cache.dtype = plan::DType::I32;
  set.rank(1).ledger->kv = cache.bytes;
  EXPECT_THAT(textOf(verifyPlanSet(set.pack())), HasSubstr("kv: rank 1: KV cache of layer 0: dtype 3, expected f32"));
}

TEST(Verifier, OnlyACpuReadsWeightsInTheFile) {
  ValidSet set(freshSeed());
  for (uint32_t rank = 0; rank < 4; ++rank)
    set.rank(rank).target = "sm_90";
  EXPECT_THAT(textOf(verifyPlanSet(set.pack())),
              HasSubstr("weight-map: rank 2: mapped weight 'final': target sm_90 reads no weight in its file"));
}

TEST(Verifier, AllRanksHaveOneTypeOnTheWay) {
  using plan::DType;
  ValidSet set(freshSeed(), DType::BF16);
  plan::ProgramT &program = *set.rank(0).programs[0];
  for (plan::Buffer &b : program.buffers)
    if (b.dtype() == DType::BF16)
      b = plan::Buffer(b.offset(), b.bytes(), b.row_elements(), -1, 1, 1, 0, 1, b.rows(), DType::F16);
  EXPECT_THAT(textOf(verifyPlanSet(set.pack())),
              AllOf(HasSubstr("collective-mismatch"), HasSubstr("send-recv-mismatch"), HasSubstr("F16")));
}

/// The plans of a TinyModel as a verifier sees them.
struct Packed {
  std::vector<std::vector<uint8_t>> payloads;
  std::vector<const plan::Plan *> plans;

  explicit Packed(TinyModel &model) {
    for (const plan::PlanT *plan : model.plans())
      payloads.push_back(packPayload(*plan));
    for (const auto &payload : payloads)
      plans.push_back(flatbuffers::GetRoot<plan::Plan>(payload.data()));
  }
};

std::string verdict(TinyModel &model) { return textOf(verifyPlanSet(Packed(model).plans)); }

TEST(Verifier, ChunksAreAllWrittenBeforeTheWholeIsRead) {
  TinyModel model(freshSeed(), {.tp = 2, .chunked = true});
  EXPECT_EQ(verdict(model), "");
  auto &program = *model.plans()[0]->programs[0];
  program.instructions[1]->op.AsEmbedding()->out = program.instructions[0]->op.AsEmbedding()->out;
  EXPECT_THAT(verdict(model), AllOf(HasSubstr("read-before-write"), HasSubstr("embed.reduce")));
}

TEST(Verifier, AQueueHasInstructions) {
  TinyModel alone(freshSeed(), {});
  EXPECT_EQ(verdict(alone), "");
  for (auto &program : alone.plans()[0]->programs)
    program->queues = 2;
  EXPECT_THAT(verdict(alone), AllOf(HasSubstr("queue: "), HasSubstr("2 queues, expected 1")));
}

TEST(Verifier, MicroBatchesHaveTheirSlots) {
  const auto change = [](auto seed) {
    TinyModel model(1, {.tp = 2, .microBatches = 3});
    EXPECT_EQ(verdict(model), "");
    seed(model.plans());
    return verdict(model);
  };
  using Plans = std::vector<plan::PlanT *>;
  const auto withLedger = [](const Plans &plans) { // as it would have to be
    for (plan::PlanT *plan : plans) {
      plan->ledger->arena = 0;
      for (const auto &program : plan->programs)
        plan->ledger->arena = std::max(plan->ledger->arena, program->arena_bytes * program->micro_batches);
    }
  };
  const auto each = [](const Plans &plans, uint16_t count) {
    for (plan::PlanT *plan : plans)
      plan->programs[1]->micro_batches = count;
  };
  EXPECT_THAT(change([&](const Plans &plans) { each(plans, 0), withLedger(plans); }),
              AllOf(HasSubstr("limits"), HasSubstr("0 micro-batches")));
  EXPECT_THAT(change([&](const Plans &plans) { each(plans, 257), withLedger(plans); }),
              AllOf(HasSubstr("limits"), HasSubstr("1 to 256 micro-batches")));
  EXPECT_EQ(change([&](const Plans &plans) { each(plans, 256), withLedger(plans); }), "");
  EXPECT_THAT(change([&](const Plans &plans) { plans[1]->programs[1]->micro_batches = 2; }),
              AllOf(HasSubstr("set-mismatch"), HasSubstr("micro_batches")));
  EXPECT_THAT(change([](const Plans &plans) { plans[0]->ledger->arena /= 3; }),
              AllOf(HasSubstr("ledger"), HasSubstr("arena_bytes x micro_batches")));
  EXPECT_THAT(change([&](const Plans &plans) { plans[0]->programs[0]->arena_bytes += 8, withLedger(plans); }),
              AllOf(HasSubstr("limits"), HasSubstr("expected a multiple of 16")));
}

TEST(Verifier, ScatteredRowsAreGatheredAsTheyWere) {
  TinyModel model(freshSeed(), {.tp = 2, .scattered = true});
  EXPECT_EQ(verdict(model), "");
  for (auto &instruction : model.plans()[0]->programs[0]->instructions)
    if (auto *gather = instruction->op.AsAllGather())
      if (gather->sequence < 5)
        gather->input = gather->out;
  EXPECT_THAT(verdict(model), HasSubstr("rows-mismatch"));
}

TEST(Verifier, MappedRowsAreWhereTheyAreSaidToBe) {
  TinyModel model(freshSeed(), {.tp = 2, .mapped = true});
  EXPECT_EQ(verdict(model), "");
  for (auto &weight : model.plans()[1]->weights)
    if (weight->name == "layers.1.down")
      weight->row_stride += 1;
  EXPECT_THAT(verdict(model), AllOf(HasSubstr("weight-map"), HasSubstr("layers.1.down")));
}

TEST(Verifier, QuantizedBlocksAreTakenWhole) {
  const auto change = [](const std::string &name, auto &&with) {
    TinyModel model(freshSeed(), {.tp = 2, .weights = plan::DType::Q4_0, .mapped = true});
    EXPECT_EQ(verdict(model), "");
    for (auto &weight : model.plans()[1]->weights)
      if (weight->name == name)
        with(*weight, *model.plans()[1]);
    return verdict(model);
  };
  EXPECT_THAT(change("layers.1.down", [](plan::WeightT &w,
                                         plan::PlanT &) { w.sources[0]->dims[1]->segments = {plan::Segment(16, 32)}; }),
              AllOf(HasSubstr("slice-alignment"), HasSubstr("cuts a block of 32 elements")));
  EXPECT_THAT(change("layers.0.q", [](plan::WeightT &w, plan::PlanT &) { w.sources[0]->transposed = 1; }),
              AllOf(HasSubstr("weight-slice"), HasSubstr("is to stay Q4_0, but is transposed")));
  EXPECT_THAT(change("layers.0.q", [](plan::WeightT &w, plan::PlanT &) { w.bytes *= 2; }), HasSubstr("weight-shape"));
  EXPECT_THAT(change("layers.0.q", [](plan::WeightT &w,
                                      plan::PlanT &p) { p.tensors[w.sources[0]->tensor]->dtype = plan::DType::Q5_0; }),
              HasSubstr("weight-shape"));
  EXPECT_THAT(change("layers.0.q", [](plan::WeightT &w, plan::PlanT &) { w.dtype = plan::DType::Q4_1; }),
              HasSubstr("weight-shape"));
  // A norm reads floats.
  EXPECT_THAT(change("layers.0.norm1",
                     [](plan::WeightT &w, plan::PlanT &p) {
                       w.dtype = p.tensors[w.sources[0]->tensor]->dtype = plan::DType::Q4_0;
                       w.bytes = p.tensors[w.sources[0]->tensor]->bytes = 18;
                     }),
              AllOf(HasSubstr("dtype-mismatch"), HasSubstr("layers.0.norm1")));
}

TEST(Verifier, QueryHeadsReadTheirOwnKvHeads) {
  TinyModel model(freshSeed(), {.tp = 2});
  for (const std::string name : {"layers.0.k", "layers.0.v"}) {
    plan::WeightT *ranks[2] = {};
    for (int r : {0, 1})
      for (auto &weight : model.plans()[r]->weights)
        if (weight->name == name)
          ranks[r] = weight.get();
    std::swap(ranks[0]->sources, ranks[1]->sources);
  }
  EXPECT_THAT(verdict(model), AllOf(HasSubstr("attention-heads"),
                                    HasSubstr("query head 0 is head 0 of the model and reads KV head 1")));
}

// What all ranks and programs agree on may still be of the wrong layer.
TEST(Verifier, LayersFollowEachOther) {
  const auto change = [](const std::function<void(plan::PlanT &)> &seed) {
    TinyModel model(freshSeed(), {.tp = 2});
    EXPECT_EQ(verdict(model), "");
    for (plan::PlanT *plan : model.plans())
      seed(*plan);
    return verdict(model);
  };
  const auto place = [](const plan::PlanT &plan, const std::string &weight) {
    return static_cast<uint32_t>(
        std::find_if(plan.weights.begin(), plan.weights.end(), [&](auto &w) { return w->name == weight; }) -
        plan.weights.begin());
  };
  EXPECT_THAT(change([&](plan::PlanT &plan) {
                const uint32_t a = place(plan, "layers.0.q"), b = place(plan, "layers.1.q");
                for (auto &program : plan.programs)
                  for (auto &it : program->instructions)
                    if (auto *linear = it->op.AsLinear(); linear && (linear->weight == a || linear->weight == b))
                      linear->weight = a + b - linear->weight;
              }),
              AllOf(HasSubstr("layer-order"), HasSubstr("the cache of layer 0 on a value that has come to layer 1")));
  EXPECT_THAT(change([](plan::PlanT &plan) { std::swap(plan.kv->caches[0]->layer, plan.kv->caches[1]->layer); }),
              AllOf(HasSubstr("layer-order"), HasSubstr("the cache of layer 1")));
  EXPECT_THAT(change([&](plan::PlanT &plan) {
                std::swap(plan.weights[place(plan, "layers.0.up")]->sources[0]->tensor,
                          plan.weights[place(plan, "layers.1.up")]->sources[0]->tensor);
              }),
              AllOf(HasSubstr("layer-order"), HasSubstr("'layers.0.up' is of layer 0, but its tensor 'layers.1.up'")));
  EXPECT_THAT(change([&](plan::PlanT &plan) {
                plan.weights[place(plan, "norm")]->sources[0]->tensor =
                    plan.weights[place(plan, "layers.1.norm1")]->sources[0]->tensor;
              }),
              AllOf(HasSubstr("layer-order"), HasSubstr("expected weights of one layer")));
}

TEST(Verifier, ChunksAreComputedAlike) {
  TinyModel model(freshSeed(), {.tp = 2, .chunked = true});
  for (plan::PlanT *plan : model.plans())
    for (auto &it : plan->programs[0]->instructions)
      if (auto *norm = it->op.AsRmsNorm()) {
        norm->eps *= 2;
        break;
      }
  EXPECT_THAT(verdict(model), HasSubstr("value-mismatch"));
}

// Whatever bytes are damaged: the verifier ends, and reads nothing that is not there.
TEST(Verifier, SurvivesDamage) {
  std::mt19937 random(freshSeed());
  ValidSet set(random());
  set.pack();
  for (int round = 0; round < 2000; ++round) {
    std::vector<std::vector<uint8_t>> payloads;
    std::vector<const plan::Plan *> plans;
    bool sound = true;
    for (uint32_t r = 0; r < 4; ++r)
      payloads.push_back(packPayload(set.rank(r)));
    for (auto &payload : payloads) {
      for (uint32_t flips = random() % 3; flips > 0; --flips) {
        uint8_t &byte = payload[random() % payload.size()];
        byte = random() % 2 == 0 ? static_cast<uint8_t>(random()) : static_cast<uint8_t>(byte ^ (1u << random() % 8));
      }
      flatbuffers::Verifier verifier(payload.data(), payload.size(), 16, 1'000'000);
      sound = sound && verifier.VerifyBuffer<plan::Plan>(nullptr);
      plans.push_back(flatbuffers::GetRoot<plan::Plan>(payload.data()));
    }
    if (sound)
      verifyPlanSet(plans);
  }
}

TEST(Verifier, StopsAtTheLimit) {
  ValidSet set(freshSeed());
  for (uint32_t r = 0; r < 4; ++r)
    set.rank(r).ledger->arena += 16;
  EXPECT_EQ(verifyPlanSet(set.pack(), 2).size(), 2u);
  EXPECT_EQ(verifyPlanSet(set.pack()).size(), 4u);
}

TEST(Verifier, NoPlans) { EXPECT_EQ(verifyPlanSet({}).size(), 1u); }

TEST(Verifier, ARankIsMissing) {
  ValidSet set(freshSeed());
  auto plans = set.pack();
  plans.pop_back();
  EXPECT_THAT(textOf(verifyPlanSet(plans)), HasSubstr("3 plans, expected 4"));
}

} // namespace

} // namespace distc::test
