#include "runtime/verify/Shapes.h"

#include "runtime/schema/PlanFile.h"
#include "runtime/verify/Operands.h"
#include "runtime/verify/Rows.h"

#include <cmath>

namespace distc::verify {

namespace {

constexpr uint64_t kMaxExperts = uint64_t(1) << 24; // an id is exact in F32

bool isFloat(plan::DType dtype) { return dtype <= plan::DType::BF16; }

class ShapeCheck {
public:
  ShapeCheck(const ProgramRef &ref, size_t index, Reporter &reporter) : ref_(ref), index_(index), reporter_(reporter) {}

  void run() {
    const plan::Instruction &it = ref_.instruction(index_);
    const Operands operands = operandsOf(it);
    const bool readsBlocks = it.op_type() == plan::Op::Linear || it.op_type() == plan::Op::Embedding ||
                             it.op_type() == plan::Op::ExpertLinear || it.op_type() == plan::Op::PositionEmbedding;
    for (int64_t index : {readsBlocks ? -1 : operands.weight, operands.bias})
      if (index >= 0)
        notQuantized(index);
    switch (it.op_type()) {
    case plan::Op::NONE:
      return;
    case plan::Op::Embedding:
      return check(*it.op_as_Embedding());
    case plan::Op::RmsNorm:
      return check(*it.op_as_RmsNorm());
    case plan::Op::Linear:
      return check(*it.op_as_Linear());
    case plan::Op::Rope:
      return check(*it.op_as_Rope());
    case plan::Op::KvAppend:
      return check(*it.op_as_KvAppend());
    case plan::Op::Attention:
      return check(*it.op_as_Attention());
    case plan::Op::Add:
      return elementwise(it.op_as_Add()->out(), {it.op_as_Add()->a(), it.op_as_Add()->b()});
    case plan::Op::Glu:
      if (it.op_as_Glu()->activation() > plan::Activation::MAX)
        fail("shape-mismatch", "unknown activation");
      return elementwise(it.op_as_Glu()->out(), {it.op_as_Glu()->gate(), it.op_as_Glu()->up()});
    case plan::Op::SelectRows:
      return check(*it.op_as_SelectRows());
    case plan::Op::TopCandidates:
      return check(*it.op_as_TopCandidates());
    case plan::Op::Sample:
      return check(*it.op_as_Sample());
    case plan::Op::AllReduce:
      reduceOp(it.op_as_AllReduce()->op());
      return elementwise(it.op_as_AllReduce()->out(), {it.op_as_AllReduce()->input()});
    case plan::Op::AllGather:
      return gather(it.op_as_AllGather()->group(), it.op_as_AllGather()->input(), it.op_as_AllGather()->out());
    case plan::Op::ReduceScatter:
      return check(*it.op_as_ReduceScatter());
    case plan::Op::Send:
    case plan::Op::Recv:
      return;
    case plan::Op::EmitIds:
      outputRows(it.op_as_EmitIds()->input(), 1, 1, plan::DType::I32);
      return;
    case plan::Op::EmitLogits:
      return check(*it.op_as_EmitLogits());
    case plan::Op::Scale:
      if (!std::isfinite(it.op_as_Scale()->factor()))
        fail("shape-mismatch", "factor is not a finite number");
      return elementwise(it.op_as_Scale()->out(), {it.op_as_Scale()->input()});
    case plan::Op::SoftCap:
      if (!(it.op_as_SoftCap()->cap() > 0) || !std::isfinite(it.op_as_SoftCap()->cap()))
        fail("shape-mismatch", "cap is not a positive number");
      return elementwise(it.op_as_SoftCap()->out(), {it.op_as_SoftCap()->input()});
    case plan::Op::SquareSum:
      return check(*it.op_as_SquareSum());
    case plan::Op::LayerNorm:
      return check(*it.op_as_LayerNorm());
    case plan::Op::Activate:
      if (it.op_as_Activate()->activation() > plan::Activation::MAX)
        fail("shape-mismatch", "unknown activation");
      return elementwise(it.op_as_Activate()->out(), {it.op_as_Activate()->input()});
    case plan::Op::PositionEmbedding:
      return check(*it.op_as_PositionEmbedding());
    case plan::Op::Route:
      return check(*it.op_as_Route());
    case plan::Op::ExpertLinear:
      return check(*it.op_as_ExpertLinear());
    case plan::Op::Combine:
      return check(*it.op_as_Combine());
    }
  }

private:
  void fail(const char *kind, std::string message) {
    reporter_.add(kind, cat(ref_.text(index_), ": ", message), {ref_.rank()}, {ref_.instruction(index_).id()});
  }
  const plan::Buffer &buffer(uint32_t i) const { return ref_.buffer(i); }
  Rows rows(uint32_t i) const { return rowsOf(ref_.program, buffer(i)); }
  const plan::Weight &weight(int64_t i) const { return *ref_.plan.weights()->Get(static_cast<uint32_t>(i)); }
  uint64_t elements(const plan::Weight &w) const {
    uint64_t n = 1;
    for (uint64_t d : *w.shape())
      n *= d;
    return n;
  }

  void sameRows(uint32_t a, uint32_t b) {
    if (!(rows(a) == rows(b)))
      fail("rows-mismatch",
           cat("rows of ", ref_.value(a), " are ", rowsText(a), ", of ", ref_.value(b), " ", rowsText(b)));
  }
  std::string rowsText(uint32_t i) const {
    const plan::Buffer &b = buffer(i);
    return cat(plan::EnumNameRowUnit(b.rows()), " x ", b.times(), " / ", b.shards(), " chunk ", b.chunk(), " of ",
               b.chunks());
  }
  void width(uint32_t i, uint64_t expected, std::string_view why) {
    if (buffer(i).row_elements() != expected)
      fail("shape-mismatch", cat(ref_.value(i), " has rows of ", buffer(i).row_elements(), " elements, expected ",
                                 expected, " (", why, ")"));
  }
  void floating(uint32_t i) {
    if (!isFloat(buffer(i).dtype()))
      fail("dtype-mismatch",
           cat(ref_.value(i), " is ", plan::EnumNameDType(buffer(i).dtype()), ", expected a float type"));
  }
  void isF32(uint32_t i) {
    if (buffer(i).dtype() != plan::DType::F32)
      fail("dtype-mismatch", cat(ref_.value(i), " is ", plan::EnumNameDType(buffer(i).dtype()), ", expected F32"));
  }
  void sameDtype(uint32_t a, uint32_t b) {
    floating(a);
    if (buffer(a).dtype() != buffer(b).dtype())
      fail("dtype-mismatch", cat(ref_.value(a), " is ", plan::EnumNameDType(buffer(a).dtype()), ", ", ref_.value(b),
                                 " is ", plan::EnumNameDType(buffer(b).dtype())));
  }
  void tokenRows(uint32_t i) {
    if (!rows(i).perToken())
      fail("rows-mismatch", cat("rows of ", ref_.value(i), " are ", rowsText(i), ", expected one for each token"));
  }
  void outputRows(uint32_t i, uint64_t times, uint64_t elements, plan::DType dtype, bool chunks = false) {
    Rows r = rows(i);
    Rows wanted{ref_.program.regime() == plan::Regime::Decode ? plan::RowUnit::Tokens : plan::RowUnit::Outputs,
                static_cast<uint32_t>(times)};
    if (chunks)
      wanted.chunk = r.chunk, wanted.chunks = r.chunks;
    if (!(r == wanted))
      fail("rows-mismatch",
           cat("rows of ", ref_.value(i), " are ", rowsText(i), ", expected ", times, " for each output"));
    width(i, elements, "what the instruction takes");
    if (buffer(i).dtype() != dtype)
      fail("dtype-mismatch", cat(ref_.value(i), " is ", plan::EnumNameDType(buffer(i).dtype()), ", expected ",
                                 plan::EnumNameDType(dtype)));
  }
  void elementwise(uint32_t out, std::initializer_list<uint32_t> inputs) {
    for (uint32_t input : inputs) {
      sameRows(input, out);
      sameDtype(input, out);
      width(input, buffer(out).row_elements(), "as the output");
    }
  }
  void reduceOp(plan::ReduceOp op) {
    if (op > plan::ReduceOp::MAX)
      fail("shape-mismatch", cat("unknown reduce op ", unsigned(op)));
  }

  void notQuantized(int64_t index) {
    const plan::Weight &w = weight(index);
    if (isQuantized(w.dtype()))
      fail("dtype-mismatch", cat("weight '", w.name()->string_view(), "' is ", plan::EnumNameDType(w.dtype()),
                                 ", expected a float type"));
  }
  /// Of norms and biases; backends read them so.
  void vectorOfF32(int64_t index) {
    if (const plan::Weight &w = weight(index); w.dtype() != plan::DType::F32)
      fail("dtype-mismatch", cat("weight '", w.name()->string_view(), "' is ", plan::EnumNameDType(w.dtype()),
                                 ", expected F32 for a norm or a bias"));
  }
  /// A quantized matrix is used as rows of whole blocks.
  void wholeBlocks(const plan::Weight &w, uint64_t columns) {
    if (columns % dtypeBlock(w.dtype()) != 0)
      fail("dtype-mismatch", cat("weight '", w.name()->string_view(), "' is ", plan::EnumNameDType(w.dtype()),
                                 " and used as rows of ", columns, ", which are no whole blocks"));
  }

  void check(const plan::Embedding &op) {
    const plan::Weight &w = weight(op.weight());
    wholeBlocks(w, buffer(op.out()).row_elements());
    tokenRows(op.out());
    floating(op.out());
    if (w.shape()->size() != 2)
      return fail("shape-mismatch",
                  cat("weight '", w.name()->string_view(), "' ", listText(*w.shape()), ", expected [rows, elements]"));
    width(op.out(), w.shape()->Get(1), "the width of the weight");
    width(op.out(), ref_.plan.model()->hidden(), "hidden, of the model");
  }

  void check(const plan::RmsNorm &op) {
    elementwise(op.out(), {op.input()});
    vectorOfF32(op.weight());
    const uint64_t part = elements(weight(op.weight())), all = buffer(op.input()).row_elements();
    if (part == 0 || all % part != 0)
      fail("shape-mismatch", cat(ref_.value(op.input()), " has rows of ", all, " elements, expected a multiple of ",
                                 part, ", the elements of the weight"));
    if (!(op.eps() >= 0) || !std::isfinite(op.eps()) || !std::isfinite(op.weight_offset()))
      fail("shape-mismatch", "eps is not a number of at least 0, or weight_offset no number");
    if (op.squares() == -1 && (op.column() != 0 || op.elements() != 0))
      fail("shape-mismatch", cat("column ", op.column(), " and ", op.elements(), " elements of no squares"));
    if (op.squares() == -1)
      return;
    const auto squares = static_cast<uint32_t>(op.squares());
    sameRows(squares, op.input());
    isF32(squares);
    if (all != part || op.column() >= buffer(squares).row_elements() || op.elements() == 0)
      fail("shape-mismatch",
           cat("column ", op.column(), " of ", ref_.value(squares), ", the squares of ", op.elements(),
               " elements, for rows of ", all, " and ", part,
               " weights: expected one of its columns, some elements, and a weight for each of a row"));
  }

  void check(const plan::SquareSum &op) {
    for (int64_t input : {int64_t(op.a()), int64_t(op.b())})
      if (input != -1) {
        sameRows(static_cast<uint32_t>(input), op.out());
        floating(static_cast<uint32_t>(input));
      }
    isF32(op.out());
    width(op.out(), op.b() == -1 ? 1 : 2, "one for each input");
  }

  void check(const plan::LayerNorm &op) {
    elementwise(op.out(), {op.input()});
    width(op.input(), elements(weight(op.weight())), "the elements of the weight");
    vectorOfF32(op.weight());
    if (op.bias() >= 0) {
      width(op.input(), elements(weight(op.bias())), "the elements of the bias");
      vectorOfF32(op.bias());
    }
    if (!(op.eps() >= 0) || !std::isfinite(op.eps()))
      fail("shape-mismatch", "eps is not a number of at least 0");
  }

  void check(const plan::PositionEmbedding &op) {
    const plan::Weight &w = weight(op.weight());
    tokenRows(op.input());
    elementwise(op.out(), {op.input()});
    wholeBlocks(w, buffer(op.out()).row_elements());
    if (w.shape()->size() != 2 || w.shape()->Get(0) < ref_.plan.limits()->max_sequence())
      return fail("shape-mismatch",
                  cat("weight '", w.name()->string_view(), "' ", listText(*w.shape()), ", expected a row for each of ",
                      ref_.plan.limits()->max_sequence(), " positions (max_sequence)"));
    width(op.out(), w.shape()->Get(1), "the width of the weight");
  }

  void check(const plan::Linear &op) {
    const plan::Weight &w = weight(op.weight());
    std::string name = cat("weight '", w.name()->string_view(), "' ", listText(*w.shape()));
    sameRows(op.input(), op.out());
    floating(op.input());
    floating(op.out());
    uint64_t k = buffer(op.input()).row_elements();
    wholeBlocks(w, k);
    if (elements(w) % k != 0)
      return fail("shape-mismatch",
                  cat(name, " is no number of rows of ", k, " elements, the width of ", ref_.value(op.input())));
    uint64_t n = elements(w) / k;
    width(op.out(), n, cat("rows of ", name));
    if (w.placement() == plan::Placement::Map && w.row_stride() != elements(w) / w.shape()->Get(0) &&
        w.shape()->Get(0) != n)
      fail("shape-mismatch",
           cat(name, " is mapped with gaps between its rows, so dimension 0 must be the ", n, " rows of the matrix"));
    if (op.bias() >= 0)
      vectorOfF32(op.bias());
    if (op.bias() >= 0 && elements(weight(op.bias())) != n)
      fail("shape-mismatch", cat("bias '", weight(op.bias()).name()->string_view(), "' has ",
                                 elements(weight(op.bias())), " elements, expected ", n));
  }

  void check(const plan::Rope &op) {
    tokenRows(op.input());
    elementwise(op.out(), {op.input()});
    width(op.input(), uint64_t(op.heads()) * op.head_dim(), "heads x head_dim");
    const plan::RopeTable &table = *ref_.plan.rope_tables()->Get(op.table());
    const uint64_t rotated = 2ull * table.inv_freq()->size() / (1 + (table.over() ? table.over()->size() : 0));
    if (rotated > op.head_dim() || op.style() > plan::RopeStyle::MAX)
      fail("shape-mismatch", cat("the rope table rotates ", rotated, " elements, head_dim is ", op.head_dim()));
  }

  void check(const plan::KvAppend &op) {
    const plan::KvCache &cache = *ref_.plan.kv()->caches()->Get(op.cache());
    tokenRows(op.k());
    sameRows(op.k(), op.v());
    sameDtype(op.k(), op.v());
    for (uint32_t value : {op.k(), op.v()})
      width(value, uint64_t(cache.heads()) * cache.head_dim(), "heads x head_dim of the cache");
  }

  void check(const plan::Attention &op) {
    const plan::KvCache &cache = *ref_.plan.kv()->caches()->Get(op.cache());
    tokenRows(op.q());
    elementwise(op.out(), {op.q()});
    width(op.q(), uint64_t(op.heads()) * cache.head_dim(), "heads x head_dim");
    if (op.heads() == 0 || op.heads() % cache.heads() != 0)
      fail("shape-mismatch", cat(op.heads(), " query heads over ", cache.heads(), " KV heads, expected a multiple"));
    if (!std::isfinite(op.scale()) || !std::isfinite(op.soft_cap()) || op.soft_cap() < 0)
      fail("shape-mismatch", "scale or soft_cap is not a finite number");
  }

  void check(const plan::SelectRows &op) {
    tokenRows(op.input());
    if (rows(op.input()).chunks != 1)
      fail("rows-mismatch", cat(ref_.value(op.input()), " is a chunk, expected all tokens"));
    sameDtype(op.input(), op.out());
    outputRows(op.out(), 1, buffer(op.input()).row_elements(), buffer(op.input()).dtype(), true);
  }

  void check(const plan::TopCandidates &op) {
    outputRows(op.logits(), 1, buffer(op.logits()).row_elements(), plan::DType::F32, true);
    outputRows(op.out(), 1, 2 * (uint64_t(op.count()) + 2), plan::DType::F32, true);
    sameRows(op.logits(), op.out());
    columns(op.first_id(), op.valid(), buffer(op.logits()).row_elements());
    if (op.count() == 0)
      fail("shape-mismatch", "count is 0, expected at least one candidate");
  }

  void check(const plan::Sample &op) {
    outputRows(op.candidates(), op.shards(), 2 * (uint64_t(op.count()) + 2), plan::DType::F32);
    outputRows(op.out(), 1, 1, plan::DType::I32);
    if (op.count() == 0)
      fail("shape-mismatch", "count is 0, expected at least one candidate");
  }

  void check(const plan::EmitLogits &op) {
    outputRows(op.input(), 1, buffer(op.input()).row_elements(), plan::DType::F32, true);
    columns(op.first_column(), op.valid(), buffer(op.input()).row_elements());
  }

  void check(const plan::Route &op) {
    const uint64_t experts = buffer(op.logits()).row_elements();
    sameRows(op.logits(), op.out());
    // Whoever lists the places of experts has room for those of a step's tokens.
    if (rows(op.out()).times != 1)
      fail("rows-mismatch",
           cat("rows of ", ref_.value(op.out()), " are ", rowsText(op.out()), ", expected at most one for each token"));
    for (uint32_t value : {op.logits(), op.out()})
      if (buffer(value).dtype() != plan::DType::F32)
        fail("dtype-mismatch",
             cat(ref_.value(value), " is ", plan::EnumNameDType(buffer(value).dtype()), ", expected F32"));
    width(op.out(), 2 * uint64_t(op.count()), "a weight and an id for each chosen expert");
    if (op.count() == 0 || op.count() > experts || experts > kMaxExperts)
      fail("shape-mismatch",
           cat("chooses ", op.count(), " of ", experts, " experts, expected 1 to all of at most ", kMaxExperts));
  }

  /// The number of experts that each row of the routes names; 0: these are no routes.
  uint64_t routed(uint32_t routes, uint32_t out) {
    sameRows(routes, out);
    const plan::Buffer &b = buffer(routes);
    if (b.dtype() == plan::DType::F32 && b.row_elements() % 2 == 0)
      return b.row_elements() / 2;
    fail("shape-mismatch", cat(ref_.value(routes), " has rows of ", b.row_elements(), " ",
                               plan::EnumNameDType(b.dtype()), ", expected pairs of F32"));
    return 0;
  }

  void check(const plan::ExpertLinear &op) {
    const plan::Weight &w = weight(op.weight());
    std::string name = cat("weight '", w.name()->string_view(), "' ", listText(*w.shape()));
    sameRows(op.input(), op.out());
    sameDtype(op.input(), op.out());
    const uint64_t count = routed(op.routes(), op.out());
    if (w.shape()->size() != 3)
      return fail("shape-mismatch", cat(name, ", expected [experts, rows, columns]"));
    if (count == 0)
      return;
    const uint64_t columns = w.shape()->Get(2);
    wholeBlocks(w, columns);
    width(op.out(), saturatingMul(count, w.shape()->Get(1)), cat("for each route the rows of ", name));
    if (buffer(op.input()).row_elements() != columns)
      width(op.input(), saturatingMul(count, columns), cat("the columns of ", name, ", or those for each route"));
  }

  void check(const plan::Combine &op) {
    sameRows(op.input(), op.out());
    sameDtype(op.input(), op.out());
    const uint64_t count = routed(op.routes(), op.out());
    if (count > 0)
      width(op.input(), count * buffer(op.out()).row_elements(), "a row of the output for each route");
  }

  void columns(uint64_t first, uint64_t valid, uint64_t width) {
    if (valid > width || first + valid > ref_.plan.model()->vocabulary())
      fail("shape-mismatch", cat("ids ", first, " to ", first + valid, " in ", width, " columns, of a vocabulary of ",
                                 ref_.plan.model()->vocabulary()));
  }

  /// Either the rows of all members one after the other, or the parts that make up the rows again.
  void gather(uint32_t group, uint32_t input, uint32_t out) {
    uint32_t size = ref_.plan.groups()->Get(group)->ranks()->size();
    Rows stacked = rows(input), joined = rows(input);
    stacked.times *= size;
    bool whole = joined.shards % size == 0;
    joined.shards /= size;
    Rows actual = rows(out);
    if (actual.chunks != 1 || !((actual == stacked && stacked.shards == 1) || (whole && actual == joined)))
      fail("rows-mismatch", cat("rows of ", ref_.value(out), " are ", rowsText(out), ", which are not those of ", size,
                                " times ", ref_.value(input), ", ", rowsText(input)));
    sameDtype(input, out);
    width(out, buffer(input).row_elements(), "as the input");
  }

  void check(const plan::ReduceScatter &op) {
    reduceOp(op.op());
    uint32_t size = ref_.plan.groups()->Get(op.group())->ranks()->size();
    Rows part = rows(op.input());
    part.shards *= size;
    if (rows(op.out()).chunks != 1 || !(rows(op.out()) == part))
      fail("rows-mismatch", cat("rows of ", ref_.value(op.out()), " are ", rowsText(op.out()), ", which are not 1 / ",
                                size, " of ", ref_.value(op.input()), ", ", rowsText(op.input())));
    sameDtype(op.input(), op.out());
    width(op.out(), buffer(op.input()).row_elements(), "as the input");
  }

  const ProgramRef &ref_;
  size_t index_;
  Reporter &reporter_;
};

} // namespace

void checkShapes(const ProgramRef &ref, size_t instruction, Reporter &reporter) {
  ShapeCheck(ref, instruction, reporter).run();
}

} // namespace distc::verify
