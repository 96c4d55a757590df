#include "tools/distc/Compile.h"

#include "runtime/schema/Tiles.h"
#include "runtime/verify/Stages.h"

#include <cstdio>
#include <set>

namespace distc {

static std::string joined(const std::set<std::string> &names) {
  std::string text;
  for (const std::string &name : names)
    text += (text.empty() ? "" : ", ") + name;
  return text;
}

// How many ranks hold a KV head: as many as hold an element of the projection to its values.
static uint32_t kvCopies(const plan::Plan &plan) {
  const plan::Program &program = *plan.programs()->Get(0);
  const auto whole = [&](uint32_t buffer) { // of a chunk
    const int32_t parent = program.buffers()->Get(buffer)->parent();
    return parent < 0 ? buffer : static_cast<uint32_t>(parent);
  };
  uint32_t values = 0;
  for (const plan::Instruction *instruction : *program.instructions())
    if (const plan::KvAppend *append = instruction->op_as_KvAppend()) {
      values = whole(append->v());
      break;
    }
  for (const plan::Instruction *instruction : *program.instructions())
    if (const plan::Linear *linear = instruction->op_as_Linear(); linear && whole(linear->out()) == values)
      return plan.weights()->Get(linear->weight())->copies();
  return 1;
}

void printSummary(const std::vector<PlanFile> &set, const std::string &directory) {
  const plan::Plan &first = set[0].plan();
  const plan::ModelInfo &model = *first.model();
  std::printf("%s: %s (%s), %u layers, %.2f B parameters, tp %u x pp %u, target %s\n", directory.c_str(),
              model.name()->c_str(), model.family()->c_str(), model.layers(), double(model.parameters()) / 1e9,
              first.mesh()->tp(), first.mesh()->pp(), first.target()->c_str());
  const plan::Limits &limits = *first.limits();
  std::printf("batch %u, %u tokens a step, sequences of %u tokens, KV blocks of %u\n", limits.max_batch(),
              limits.max_tokens(), limits.max_sequence(), limits.kv_block());
  std::set<std::string> matrices;
  for (const plan::Weight *weight : *first.weights())
    if (weight->shape()->size() > 1)
      matrices.insert(plan::EnumNameDType(weight->dtype()));
  // The first value of the first stage is the embedding.
  std::printf("matrices %s, activations %s, KV cache %s\n", joined(matrices).c_str(),
              plan::EnumNameDType(first.programs()->Get(0)->buffers()->Get(0)->dtype()),
              plan::EnumNameDType(first.kv()->caches()->Get(0)->dtype()));
  std::printf("%5s %6s %8s %14s %14s %12s %12s\n", "rank", "stage", "layers", "weights", "of it mapped", "KV", "arena");
  for (const PlanFile &file : set) {
    const plan::Mesh &mesh = *file.plan().mesh();
    const plan::Ledger &ledger = *file.plan().ledger();
    std::string layers =
        std::to_string(mesh.first_layer()) + "-" + std::to_string(mesh.first_layer() + mesh.layers() - 1);
    std::printf("%5u %6u %8s %14s %14s %12s %12s\n", mesh.rank(), mesh.stage(), layers.c_str(),
                formatBytes(ledger.weights_loaded() + ledger.weights_mapped()).c_str(),
                formatBytes(ledger.weights_mapped()).c_str(), formatBytes(ledger.kv()).c_str(),
                formatBytes(ledger.arena()).c_str());
  }
  if (const uint32_t copies = kvCopies(first); copies > 1)
    std::printf("each KV head is held %u times by the ranks of a stage, whose KV caches are as many times the model's "
                "(distc explain)\n",
                copies);
  // One rank of each stage stands for all of it.
  uint64_t reduces = 0, gathers = 0, sends = 0, bytes = 0;
  for (const PlanFile &file : set) {
    if (file.plan().mesh()->tp_index() != 0)
      continue;
    for (const plan::Program *program : *file.plan().programs()) {
      if (program->regime() != plan::Regime::Decode)
        continue;
      auto perToken = [&](uint32_t index) {
        const plan::Buffer *buffer = program->buffers()->Get(index);
        return uint64_t(buffer->row_elements()) * buffer->times() * dtypeBytes(buffer->dtype());
      };
      for (const plan::Instruction *instruction : *program->instructions()) {
        if (const plan::AllReduce *op = instruction->op_as_AllReduce()) {
          ++reduces;
          bytes += perToken(op->input());
        } else if (const plan::AllGather *op = instruction->op_as_AllGather()) {
          ++gathers;
          bytes += perToken(op->out());
        } else if (const plan::Send *op = instruction->op_as_Send()) {
          ++sends;
          bytes += perToken(op->input());
        }
      }
    }
  }
  std::printf("decode, per token: %llu x all-reduce, %llu x all-gather, %llu x send, %s\n",
              static_cast<unsigned long long>(reduces), static_cast<unsigned long long>(gathers),
              static_cast<unsigned long long>(sends), formatBytes(bytes).c_str());
  for (const plan::Program *program : *first.programs())
    if (program->schedule())
      std::printf(
          "decode, up to %u tokens: %u stages of %u instructions on %u SMs, %.1f %% above an even share of bytes\n",
          kStageTokens, program->schedule()->stages()->size(), program->instructions()->size(),
          program->schedule()->sms(), 100 * scheduleImbalance(first, *program));
}

} // namespace distc
