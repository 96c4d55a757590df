#include "runtime/verify/Inspect.h"

#include "runtime/verify/Report.h"
#include "runtime/verify/Stages.h"

#include <charconv>
#include <cstdio>

namespace distc {

using verify::cat;
using verify::listText;
using verify::ProgramRef;

namespace {

template <typename T> std::string numberText(T value) {
  char text[40];
  return {text, std::to_chars(text, text + sizeof text, value).ptr}; // the shortest that reads back as the same
}

std::string percentText(double part) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f %%", part * 100);
  return text;
}
std::string bytesText(uint64_t bytes) { return cat(bytes, " (", formatBytes(bytes), ")"); }

class Printer {
public:
  Printer(const plan::Plan &plan, const InspectOptions &options) : plan_(plan), options_(options) {}

  std::string print() {
    header();
    if (!options_.program)
      weights();
    if (!options_.weights) {
      if (!options_.program)
        caches();
      for (uint32_t p = 0; p < plan_.programs()->size(); ++p)
        if (!options_.program || plan_.programs()->Get(p)->regime() == *options_.program)
          program({plan_, *plan_.programs()->Get(p), p});
    }
    return std::move(out_);
  }

private:
  void line(const std::string &text) {
    if (options_.grep.empty() || !pastHeader_ || text.find(options_.grep) != std::string::npos)
      out_ += text + "\n";
  }

  void header() {
    const plan::ModelInfo &model = *plan_.model();
    const plan::Mesh &mesh = *plan_.mesh();
    const plan::Limits &limits = *plan_.limits();
    const plan::Ledger &ledger = *plan_.ledger();
    line(cat("plan      ", plan_.producer()->string_view(), ", target ", plan_.target()->string_view()));
    line(cat("model     ", model.name()->string_view(), " (", model.family()->string_view(), "): ", model.parameters(),
             " parameters, ", model.layers(), " layers, hidden ", model.hidden(), ", vocabulary ", model.vocabulary(),
             ", context ", model.context(), ", tokenizer ",
             model.tokenizer() ? model.tokenizer()->string_view() : std::string_view("none")));
    line(cat("mesh      tp ", mesh.tp(), " x pp ", mesh.pp(), ": rank ", mesh.rank(), ", stage ", mesh.stage(),
             ", tp_index ", mesh.tp_index(), ", layers ", mesh.first_layer(), ":", mesh.first_layer() + mesh.layers()));
    line(cat("limits    max_batch ", limits.max_batch(), ", max_tokens ", limits.max_tokens(), ", max_sequence ",
             limits.max_sequence(), ", kv_block ", limits.kv_block()));
    line(cat("weights   loaded ", bytesText(ledger.weights_loaded()), ", mapped ", bytesText(ledger.weights_mapped())));
    line(cat("memory    kv ", bytesText(ledger.kv()), ", arena ", bytesText(ledger.arena()), ", tables ",
             bytesText(ledger.tables())));
    for (const plan::Group *group : *plan_.groups())
      line(cat("group     ", group->name()->string_view(), " ", listText(*group->ranks())));
    for (const plan::RopeTable *table : *plan_.rope_tables())
      line(cat("rope      ", table->inv_freq()->size(), " frequencies, ", numberText(table->inv_freq()->Get(0)), " to ",
               numberText(table->inv_freq()->Get(table->inv_freq()->size() - 1)), ", magnitude ",
               numberText(table->magnitude()),
               table->over() ? cat(", in sets for sequences of more than ", listText(*table->over()), " tokens") : ""));
    std::string passes;
    if (plan_.passes())
      for (const flatbuffers::String *pass : *plan_.passes())
        passes += cat(passes.empty() ? "" : ", ", pass->string_view());
    line(cat("passes    ", passes.empty() ? "none" : passes));
    for (const plan::SourceFile *file : *plan_.files())
      line(cat("file      ", file->path()->string_view(), ": ", bytesText(file->size()), ", header ",
               file->header_bytes(), ", hash ", file->header_hash()));
    pastHeader_ = true;
  }

  void weights() {
    line("");
    for (const plan::Weight *weight : *plan_.weights()) {
      std::string where = weight->placement() == plan::Placement::Load
                              ? cat("load at ", weight->offset())
                              : cat("map, rows ", weight->row_stride(), " apart");
      line(cat("weight    ", weight->name()->string_view(), " ", plan::EnumNameDType(weight->dtype()), " ",
               listText(*weight->shape()), " ", where, ", ", weight->bytes(), " bytes, copies ", weight->copies(),
               ", random ", plan::EnumNameInit(weight->init()),
               weight->init() == plan::Init::Uniform ? cat(" x ", numberText(weight->init_scale())) : ""));
      for (const plan::WeightSource *source : *weight->sources())
        line(sourceText(*source));
    }
  }

  std::string sourceText(const plan::WeightSource &source) const {
    const plan::SourceTensor &tensor = *plan_.tensors()->Get(source.tensor());
    std::string dims;
    for (const plan::DimSlice *dim : *source.dims()) {
      dims += dims.empty() ? "" : ", ";
      bool first = true;
      for (const plan::Segment *segment : *dim->segments()) {
        dims += first ? "" : "+";
        dims += segment->begin() == kZeroFill ? cat("0x", segment->count())
                                              : cat(segment->begin(), ":", segment->begin() + segment->count());
        first = false;
      }
    }
    std::string file = tensor.file() < 0
                           ? std::string("no file")
                           : cat(plan_.files()->Get(static_cast<uint32_t>(tensor.file()))->path()->string_view(),
                                 " at ", tensor.offset());
    return cat("  from    ", tensor.name()->string_view(), " ", plan::EnumNameDType(tensor.dtype()), " ",
               listText(*tensor.shape()), " as ", listText(*source.view()),
               source.transposed() == 0 ? "" : cat(" transposed ", source.transposed()), " [", dims, "] in ", file);
  }

  void caches() {
    const plan::KvPool &pool = *plan_.kv();
    line("");
    line(cat("kv        ", pool.blocks(), " blocks of ", pool.block_tokens(), " tokens, ", pool.blocks_per_sequence(),
             " per sequence"));
    for (const plan::KvCache *cache : *pool.caches())
      line(cat("cache     layer ", cache->layer(), ": ", cache->heads(), " heads of ", cache->head_dim(), " ",
               plan::EnumNameDType(cache->dtype()), " at ", cache->offset(), ", ", cache->bytes(), " bytes"));
  }

  static std::string_view name(const ProgramRef &ref, uint32_t buffer) {
    return ref.program.values() ? ref.program.values()->Get(buffer)->name()->string_view() : std::string_view();
  }
  /// "%12 layers.3.attention".
  static std::string value(const ProgramRef &ref, uint32_t buffer) {
    std::string_view text = name(ref, buffer);
    return cat("%", buffer, text.empty() ? "" : " ", text);
  }

  void program(const ProgramRef &ref) {
    const plan::Program &p = ref.program;
    line("");
    line(cat("program   ", ref.index, " ", p.regime() == plan::Regime::Decode ? "decode" : "prefill", ": up to ",
             p.max_tokens(), " tokens, ", p.max_sequences(), " sequences, ", p.max_outputs(), " outputs; ",
             unsigned(p.queues()), " queues, ", p.events(), " events, ", p.micro_batches(), " micro-batches, arena ",
             bytesText(p.arena_bytes())));
    for (uint32_t i = 0; i < p.instructions()->size(); ++i)
      line(instruction(ref, i));
    for (uint32_t b = 0; b < p.buffers()->size(); ++b)
      line(buffer(ref, b));
    if (p.schedule())
      schedule(ref);
  }

  void schedule(const ProgramRef &ref) {
    const plan::TileSchedule &schedule = *ref.program.schedule();
    line(cat("  schedule for ", schedule.sms(), " SMs, ring of ", bytesText(schedule.ring_bytes()), " each, ",
             percentText(scheduleImbalance(plan_, ref.program)), " above an even share"));
    for (uint32_t s = 0; s < schedule.stages()->size(); ++s) {
      const plan::StageTiles &stage = *schedule.stages()->Get(s);
      std::string text = cat("  stage ", s, " ", plan::EnumNameStageKind(stage.kind()), " of instructions");
      for (uint32_t i = stage.instruction(); i < stage.instruction() + stage.count(); ++i)
        text += cat(" ", ref.instruction(i).id());
      if (stage.waits() && stage.waits()->size() > 0)
        text += cat(", after ", listText(*stage.waits()));
      line(stage.bounds()->size() == 0 ? text : cat(text, ", units ", listText(*stage.bounds())));
    }
  }

  std::string weightName(int64_t index) const {
    return plan_.weights()->Get(static_cast<uint32_t>(index))->name()->str();
  }

  std::string instruction(const ProgramRef &ref, uint32_t i) const {
    const plan::Instruction &it = ref.instruction(i);
    Operands operands = operandsOf(it);
    std::string text = cat("  ", it.id(), " q", unsigned(it.queue()), " ", plan::EnumNameOp(it.op_type()));
    for (const BufferOperand &operand : operands.buffers())
      text += cat(operand.write ? " -> " : " ", value(ref, operand.buffer));
    if (operands.weight >= 0)
      text += cat(", weight ", weightName(operands.weight));
    if (operands.bias >= 0)
      text += cat(", bias ", weightName(operands.bias));
    if (operands.cache >= 0)
      text += cat(", cache of layer ", plan_.kv()->caches()->Get(static_cast<uint32_t>(operands.cache))->layer());
    if (operands.table >= 0)
      text += cat(", table ", operands.table);
    if (operands.group >= 0) {
      const plan::Group &group = *plan_.groups()->Get(static_cast<uint32_t>(operands.group));
      text += cat(", group ", group.name()->string_view(), " #", operands.sequence);
      if (operands.peer >= 0)
        text += cat(", peer rank ", group.ranks()->Get(static_cast<uint32_t>(operands.peer)));
    }
    text += attributes(it);
    if (it.waits() && it.waits()->size() > 0)
      text += cat(", waits ", listText(*it.waits()));
    if (it.signal() >= 0)
      text += cat(", signals ", it.signal());
    if (ref.program.labels())
      text += cat(" | ", ref.program.labels()->Get(i)->string_view());
    return text;
  }

  static std::string attributes(const plan::Instruction &it) {
    if (const auto *op = it.op_as_Embedding())
      return cat(", first_row ", op->first_row());
    if (const auto *op = it.op_as_RmsNorm())
      return cat(", eps ", numberText(op->eps()),
                 op->weight_offset() != 0 ? cat(", weight + ", numberText(op->weight_offset())) : "",
                 op->squares() >= 0 ? cat(", squares of ", op->elements(), " in column ", op->column()) : "");
    if (const auto *op = it.op_as_Scale())
      return cat(", factor ", numberText(op->factor()));
    if (const auto *op = it.op_as_SoftCap())
      return cat(", cap ", numberText(op->cap()));
    if (const auto *op = it.op_as_Rope())
      return cat(", heads ", op->heads(), " x ", op->head_dim(), ", ", plan::EnumNameRopeStyle(op->style()));
    if (const auto *op = it.op_as_Attention())
      return cat(", heads ", op->heads(), ", scale ", numberText(op->scale()),
                 op->window() ? cat(", window ", op->window()) : "",
                 op->soft_cap() != 0 ? cat(", soft_cap ", numberText(op->soft_cap())) : "");
    if (const auto *op = it.op_as_Glu())
      return cat(", ", plan::EnumNameActivation(op->activation()));
    if (const auto *op = it.op_as_LayerNorm())
      return cat(", eps ", numberText(op->eps()));
    if (const auto *op = it.op_as_Activate())
      return cat(", ", plan::EnumNameActivation(op->activation()));
    if (const auto *op = it.op_as_TopCandidates())
      return cat(", ids ", op->first_id(), ":", uint64_t(op->first_id()) + op->valid(), ", count ", op->count());
    if (const auto *op = it.op_as_Sample())
      return cat(", shards ", op->shards(), ", count ", op->count());
    if (const auto *op = it.op_as_AllReduce())
      return cat(", ", plan::EnumNameReduceOp(op->op()));
    if (const auto *op = it.op_as_ReduceScatter())
      return cat(", ", plan::EnumNameReduceOp(op->op()));
    if (const auto *op = it.op_as_Route())
      return cat(", count ", op->count(), op->normalize() ? ", normalized" : "");
    if (const auto *op = it.op_as_EmitLogits())
      return cat(", ids ", op->first_column(), ":", uint64_t(op->first_column()) + op->valid());
    return {};
  }

  static std::string buffer(const ProgramRef &ref, uint32_t b) {
    const plan::Buffer &it = ref.buffer(b);
    std::string rows = plan::EnumNameRowUnit(it.rows());
    if (it.times() != 1)
      rows += cat(" x ", it.times());
    if (it.shards() != 1)
      rows += cat(" / ", it.shards());
    if (it.chunks() != 1)
      rows += cat(", chunk ", it.chunk(), " of ", it.chunks(), ",");
    std::string text =
        cat("  ", value(ref, b), ": ", rows, " x ", it.row_elements(), " ", plan::EnumNameDType(it.dtype()),
            it.parent() >= 0 ? cat(" in %", it.parent()) : cat(" at ", it.offset(), ", ", it.bytes(), " bytes"));
    if (ref.program.values()) {
      const plan::ValueInfo &info = *ref.program.values()->Get(b);
      text += cat(", ", plan::EnumNameLayoutKind(info.layout()),
                  info.layout() == plan::LayoutKind::Split ? cat(" dim ", info.dim()) : "");
      if (info.dims())
        text += cat(" of ", listText(*info.dims()));
    }
    return text;
  }

  const plan::Plan &plan_;
  const InspectOptions &options_;
  std::string out_;
  bool pastHeader_ = false;
};

} // namespace

std::string inspectText(const plan::Plan &plan, const InspectOptions &options) {
  return Printer(plan, options).print();
}

} // namespace distc
