#include "compiler/Import/ModelBuilder.h"

#include "dialects/LLM/LLMDialect.h"
#include "runtime/schema/PlanFile.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"

#include <cmath>

namespace distc {

namespace {

using namespace mlir;
using import::Expression;
using import::ModelSource;
using import::Statement;
using import::WeightRule;

// Candidates per rank and output that sampling looks at; docs/plan-format.md says what is cut to this.
constexpr int64_t kCandidates = 256;
constexpr int64_t kMaxParameters = int64_t(1) << 50; // beyond, sizes in bytes would not fit 64 bits

Type elementType(MLIRContext *context, plan::DType dtype) {
  switch (dtype) {
  case plan::DType::BF16:
    return BFloat16Type::get(context);
  case plan::DType::F16:
    return Float16Type::get(context);
  default:
    if (isQuantized(dtype))
      return llm::QuantizedType::get(context, static_cast<llm::DType>(dtype));
    return Float32Type::get(context);
  }
}

// Of activations and KV caches. On a GPU of the matrices too: bf16, or f16 where the checkpoint has f16 and nothing
// that f16 cannot hold.
Type activationType(MLIRContext *context, const ModelSource &source, StringRef target) {
  if (target == "cpu")
    return Float32Type::get(context);
  const std::set<plan::DType> &types = source.matrixTypes;
  auto fits = [](plan::DType dtype) { return dtype == plan::DType::F16 || dtype == plan::DType::F32; };
  return types.count(plan::DType::F16) && llvm::all_of(types, fits) ? Type(Float16Type::get(context))
                                                                    : Type(BFloat16Type::get(context));
}

class ModelBuilder {
public:
  ModelBuilder(MLIRContext &context, const ModelSource &source, const Limits &limits, const std::string &target)
      : context_(context), source_(source), values_(source.values), limits_(limits), target_(target),
        symbols_(&context), body_(&context), f32_(Float32Type::get(&context)),
        activation_(activationType(&context, source, target)),
        fileLocation_(FileLineColLoc::get(&context, source.path, 0, 0)) {}

  Result<OwningOpRef<ModuleOp>> build() {
    OwningOpRef<ModuleOp> module = ModuleOp::create(fileLocation_);
    symbols_.setInsertionPointToEnd(module->getBody());
    declareModel(*module);

    auto batch = llm::BatchType::get(&context_);
    auto ids = RankedTensorType::get({ShapedType::kDynamic}, IntegerType::get(&context_, 32));
    auto logits = RankedTensorType::get({ShapedType::kDynamic, values_.integers.at("vocabulary")}, f32_);
    OpBuilder functions(&context_);
    functions.setInsertionPointToEnd(module->getBody());
    auto forward =
        func::FuncOp::create(functions, fileLocation_, "forward", FunctionType::get(&context_, {batch}, {ids, logits}));
    Block *entry = forward.addEntryBlock();
    batch_ = entry->getArgument(0);
    body_.setInsertionPointToStart(entry);
    symbols_.setInsertionPoint(forward);
    if (Status status = emitBody(); !status.ok())
      return status;
    (*module)->setAttr("llm.model", modelInfo());
    return module;
  }

private:
  void declareModel(ModuleOp module) {
    auto i64 = [&](int64_t value) { return symbols_.getI64IntegerAttr(value); };
    module->setAttr("llm.target", symbols_.getStringAttr(target_));
    module->setAttr("llm.limits", symbols_.getDictionaryAttr({
                                      symbols_.getNamedAttr("kv_block", i64(limits_.kvBlock)),
                                      symbols_.getNamedAttr("max_batch", i64(limits_.maxBatch)),
                                      symbols_.getNamedAttr("max_sequence", i64(limits_.maxSequence)),
                                      symbols_.getNamedAttr("max_tokens", i64(limits_.maxTokens)),
                                  }));
    for (auto [index, file] : llvm::enumerate(source_.index.files))
      llm::FileOp::create(symbols_, fileLocation_, "file" + std::to_string(index), file.path, file.size,
                          file.headerBytes, static_cast<int64_t>(file.headerHash));
    const import::RopeFrequencies rope = source_.rope.upTo(limits_.maxSequence);
    llm::RopeTableOp::create(symbols_, fileLocation_, "rope", symbols_.getF64ArrayAttr(rope.invFreq),
                             llvm::APFloat(rope.magnitude), symbols_.getDenseI64ArrayAttr(rope.over));
  }

  DictionaryAttr modelInfo() {
    auto i64 = [&](const char *name, int64_t value) {
      return symbols_.getNamedAttr(name, symbols_.getI64IntegerAttr(value));
    };
    SmallVector<NamedAttribute> info = {
        symbols_.getNamedAttr("name", symbols_.getStringAttr(source_.name)),
        symbols_.getNamedAttr("family", symbols_.getStringAttr(source_.family->name)),
        i64("vocabulary", values_.integers.at("vocabulary")),
        i64("hidden", values_.integers.at("hidden")),
        i64("layers", values_.integers.at("layers")),
        i64("parameters", parameters_),
        i64("context", values_.integers.at("context")),
    };
    if (source_.tokenizer)
      info.push_back(symbols_.getNamedAttr("tokenizer", symbols_.getStringAttr("tokenizer.dtok")));
    return symbols_.getDictionaryAttr(info);
  }

  Status emitBody() {
    DISTC_TRY(emit(source_.family->begin));
    for (layer_ = 0; layer_ < values_.integers.at("layers"); ++layer_) {
      prefix_ = "layers." + std::to_string(layer_) + ".";
      Value &x = environment_["x"];
      x = llm::LayerOp::create(body_, named("begin"), x.getType(), layer_, x);
      DISTC_TRY(emit(source_.family->layer));
    }
    layer_ = -1;
    prefix_.clear();
    Value &x = environment_["x"];
    x = llm::SelectOutputsOp::create(body_, named("outputs"), x.getType(), x, batch_);
    DISTC_TRY(emit(source_.family->end));

    Value logits = environment_["logits"];
    auto candidatesType = RankedTensorType::get({ShapedType::kDynamic, kCandidates + 2, 2}, f32_);
    auto idsType = RankedTensorType::get({ShapedType::kDynamic}, body_.getI32Type());
    Value candidates = llm::TopCandidatesOp::create(body_, named("candidates"), candidatesType, logits, batch_,
                                                    kCandidates, values_.integers.at("vocabulary"));
    Value ids = llm::SampleOp::create(body_, named("ids"), idsType, candidates, batch_);
    func::ReturnOp::create(body_, fileLocation_, ValueRange{ids, logits});
    return {};
  }

  Status emit(const std::vector<Statement> &statements) {
    for (const Statement &statement : statements) {
      DISTC_ASSIGN(Value value, evaluate(statement.expression, statement.result));
      environment_[statement.result] = value;
    }
    return {};
  }

  Location named(const std::string &name) {
    return NameLoc::get(symbols_.getStringAttr(prefix_ + name), fileLocation_);
  }

  // Names of values and instructions come from here: the outermost call of a statement has its result's name, a call
  // inside it that of its weight, else of its op.
  Result<Value> evaluate(const Expression &expression, const std::string &name) {
    if (!expression.call) {
      auto it = environment_.find(expression.name);
      if (it == environment_.end())
        return bad("no value '" + expression.name + "'");
      return it->second;
    }
    const std::string &op = expression.name;
    DISTC_ASSIGN(bool wanted, applies(expression));
    if (!wanted) // its first argument stands for it
      return expression.arguments.empty() ? Result<Value>(bad("'" + op + "' takes an argument"))
                                          : evaluate(expression.arguments[0], name);
    if (op == "embedding")
      return embedding(expression, name);
    if (op == "rms_norm")
      return rmsNorm(expression, name);
    if (op == "layer_norm")
      return layerNorm(expression, name);
    if (op == "position_embedding")
      return positionEmbedding(expression, name);
    if (op == "activate")
      return activate(expression, name);
    if (op == "linear")
      return linear(expression, name);
    if (op == "rope")
      return rope(expression, name);
    if (op == "attention")
      return attention(expression, name);
    if (op == "add")
      return add(expression, name);
    if (op == "glu")
      return glu(expression, name);
    if (op == "scale" || op == "soft_cap")
      return scaleOrCap(expression, name);
    if (op == "route")
      return route(expression, name);
    if (op == "expert_linear")
      return expertLinear(expression, name);
    if (op == "combine")
      return combine(expression, name);
    return bad("unknown op '" + op +
               "'; known are embedding, position_embedding, rms_norm, layer_norm, linear, rope, attention, add, "
               "activate, glu, scale, soft_cap, route, expert_linear, combine");
  }

  // A call may depend on a value, `if=` or `unless=`, of the layer.
  Result<bool> applies(const Expression &call) {
    static const std::map<std::string, std::set<std::string>> known = {{"attention", {"window", "scale", "soft_cap"}},
                                                                       {"rms_norm", {"offset"}}};
    auto own = known.find(call.name);
    bool result = true;
    for (const auto &[option, value] : call.options) {
      if (option == "if" || option == "unless") {
        if (!values_.booleans.count(value))
          return bad("'" + option + "' takes a boolean value, got '" + value + "'");
        result &= values_.boolean(value, layer_) == (option == "if");
      } else if (own == known.end() || !own->second.count(option)) {
        return bad("'" + call.name + "' has no option '" + option + "'");
      }
    }
    return result;
  }

  Result<Value> operand(const Expression &call, size_t index, const std::string &name) {
    if (index >= call.arguments.size())
      return bad("'" + call.name + "' takes at least " + std::to_string(index + 1) + " arguments");
    const Expression &argument = call.arguments[index];
    std::string inner = name + "." + argument.name;
    const size_t weight = argument.name == "linear" ? 1 : argument.name == "expert_linear" ? 2 : 0;
    if (argument.call && weight > 0 && argument.arguments.size() > weight)
      inner = argument.arguments[weight].name == name ? name + ".linear" : argument.arguments[weight].name;
    return evaluate(argument, inner);
  }

  Result<Value> embedding(const Expression &call, const std::string &name) {
    DISTC_ASSIGN(llm::ParamOp table, weight(call, 0));
    auto type = RankedTensorType::get({ShapedType::kDynamic, values_.integers.at("hidden")}, activation_);
    return Value(llm::EmbeddingOp::create(body_, named(name), type, batch_, table.getSymName()));
  }

  Result<Value> rmsNorm(const Expression &call, const std::string &name) {
    DISTC_ASSIGN(Value x, operand(call, 0, name));
    DISTC_ASSIGN(llm::ParamOp scale, weight(call, 1));
    DISTC_ASSIGN(double eps, number(call, 2));
    DISTC_ASSIGN(double offset, option(call, "offset", 0));
    auto f32 = [&](double value) { return body_.getF32FloatAttr(static_cast<float>(value)); };
    return Value(llm::RmsNormOp::create(body_, named(name), x.getType(), x,
                                        FlatSymbolRefAttr::get(scale.getSymNameAttr()), f32(eps), f32(offset), Value(),
                                        body_.getI64IntegerAttr(0), body_.getI64IntegerAttr(0)));
  }

  Result<Value> layerNorm(const Expression &call, const std::string &name) {
    DISTC_ASSIGN(Value x, operand(call, 0, name));
    DISTC_ASSIGN(llm::ParamOp scale, weight(call, 1));
    DISTC_ASSIGN(FlatSymbolRefAttr shift, bias(call, 2));
    DISTC_ASSIGN(double eps, number(call, 3));
    return Value(llm::LayerNormOp::create(body_, named(name), x.getType(), x,
                                          FlatSymbolRefAttr::get(scale.getSymNameAttr()), shift,
                                          body_.getF32FloatAttr(static_cast<float>(eps))));
  }

  Result<Value> positionEmbedding(const Expression &call, const std::string &name) {
    DISTC_ASSIGN(Value x, operand(call, 0, name));
    DISTC_ASSIGN(llm::ParamOp table, weight(call, 1));
    if (const int64_t positions = table.getTensorType().getShape()[0]; limits_.maxSequence > positions)
      return invalidArgument(source_.path + ": the model has learned " + std::to_string(positions) +
                             " positions, and sequences are to have " + std::to_string(limits_.maxSequence) +
                             "; expected " + std::to_string(positions) + " or fewer (--max-seq, of advise --context)");
    return Value(llm::PositionEmbeddingOp::create(body_, named(name), x.getType(), x, batch_, table.getSymName()));
  }

  Result<Value> activate(const Expression &call, const std::string &name) {
    DISTC_ASSIGN(const std::string function, activation(call));
    DISTC_ASSIGN(Value x, operand(call, 1, name));
    return Value(llm::ActivateOp::create(body_, named(name), x.getType(), *llm::symbolizeActivation(function), x));
  }

  /// An argument that may be left out, and is left out where the weight does not exist.
  Result<FlatSymbolRefAttr> bias(const Expression &call, size_t index) {
    if (index >= call.arguments.size() || !exists(call.arguments[index].name))
      return FlatSymbolRefAttr();
    DISTC_ASSIGN(llm::ParamOp vector, weight(call, index));
    return FlatSymbolRefAttr::get(vector.getSymNameAttr());
  }

  Result<Value> linear(const Expression &call, const std::string &name) {
    DISTC_ASSIGN(Value x, operand(call, 0, name));
    DISTC_ASSIGN(llm::ParamOp matrix, weight(call, 1));
    DISTC_ASSIGN(FlatSymbolRefAttr bias, this->bias(call, 2));
    size_t inRank = cast<RankedTensorType>(x.getType()).getRank() - 1;
    if (static_cast<size_t>(matrix.getTensorType().getRank()) <= inRank)
      return bad("linear: weight '" + call.arguments[1].name + "' has too few dimensions");
    SmallVector<int64_t> shape{ShapedType::kDynamic};
    llvm::append_range(shape, matrix.getTensorType().getShape().drop_back(inRank));
    // Logits: of the vocabulary, which are sampled from, or of experts.
    StringRef dim = cast<StringAttr>(matrix.getDims()[0]).getValue();
    Type element = dim == "vocabulary" || dim == "experts" ? f32_ : activation_;
    return Value(llm::LinearOp::create(body_, named(name), RankedTensorType::get(shape, element), x,
                                       FlatSymbolRefAttr::get(matrix.getSymNameAttr()), bias));
  }

  Result<Value> rope(const Expression &call, const std::string &name) {
    DISTC_ASSIGN(Value x, operand(call, 0, name));
    const std::string &style =
        source_.format == import::Format::HuggingFace ? source_.family->hfRope : source_.family->ggufRope;
    std::optional<llm::RopeStyle> kind = llm::symbolizeRopeStyle(style);
    if (!kind)
      return bad("unknown rope style '" + style + "'");
    return Value(llm::RopeOp::create(body_, named(name), x.getType(), x, batch_, "rope", *kind));
  }

  Result<Value> attention(const Expression &call, const std::string &name) {
    DISTC_ASSIGN(Value q, operand(call, 0, name));
    DISTC_ASSIGN(Value k, operand(call, 1, name));
    DISTC_ASSIGN(Value v, operand(call, 2, name));
    int64_t window = 0;
    if (auto option = call.options.find("window"); option != call.options.end()) {
      if (!values_.integers.count(option->second))
        return bad("no integer value '" + option->second + "'");
      window = values_.integer(option->second, layer_);
    }
    int64_t headDim = values_.integers.at("head_dim");
    std::string cache = prefix_ + "kv";
    auto type = llm::KvCacheType::get(&context_, values_.integers.at("kv_heads"), headDim, activation_);
    llm::KvCacheOp::create(symbols_, fileLocation_, cache, layer_, type, /*sharded=*/false);
    llm::KvAppendOp::create(body_, named("kv"), k, v, batch_, cache);
    DISTC_ASSIGN(double scale, option(call, "scale", 1 / std::sqrt(static_cast<double>(headDim))));
    DISTC_ASSIGN(double cap, option(call, "soft_cap", 0));
    return Value(llm::AttentionOp::create(body_, named(name), q.getType(), q, batch_, cache,
                                          llvm::APFloat(static_cast<float>(scale)), window,
                                          llvm::APFloat(static_cast<float>(cap))));
  }

  Result<Value> add(const Expression &call, const std::string &name) {
    DISTC_ASSIGN(Value a, operand(call, 0, name));
    DISTC_ASSIGN(Value b, operand(call, 1, name));
    return Value(llm::AddOp::create(body_, named(name), a.getType(), a, b));
  }

  Result<Value> glu(const Expression &call, const std::string &name) {
    DISTC_ASSIGN(const std::string function, activation(call));
    DISTC_ASSIGN(Value gate, operand(call, 1, name));
    DISTC_ASSIGN(Value up, operand(call, 2, name));
    return Value(llm::GluOp::create(body_, named(name), gate.getType(), *llm::symbolizeActivation(function), gate, up));
  }

  Result<std::string> activation(const Expression &call) {
    auto it = call.arguments.empty() ? values_.activations.end() : values_.activations.find(call.arguments[0].name);
    if (it == values_.activations.end())
      return bad("'" + call.name + "' takes an activation first");
    return it->second;
  }

  // A factor of 1 and a cap of 0 change nothing.
  Result<Value> scaleOrCap(const Expression &call, const std::string &name) {
    DISTC_ASSIGN(double by, number(call, 1));
    const bool scales = call.name == "scale";
    if (by == (scales ? 1 : 0))
      return evaluate(call.arguments[0], name);
    DISTC_ASSIGN(Value x, operand(call, 0, name));
    llvm::APFloat value(static_cast<float>(by));
    return scales ? Value(llm::ScaleOp::create(body_, named(name), x.getType(), x, value))
                  : Value(llm::SoftCapOp::create(body_, named(name), x.getType(), x, value));
  }

  Result<double> option(const Expression &call, const std::string &name, double otherwise) {
    auto option = call.options.find(name);
    if (option == call.options.end())
      return otherwise;
    auto it = values_.numbers.find(option->second);
    return it == values_.numbers.end() ? bad("no number '" + option->second + "'") : Result<double>(it->second);
  }

  Result<Value> route(const Expression &call, const std::string &name) {
    DISTC_ASSIGN(Value logits, operand(call, 0, name));
    auto count = call.arguments.size() != 3 ? values_.integers.end() : values_.integers.find(call.arguments[1].name);
    if (count == values_.integers.end() || !values_.booleans.count(call.arguments[2].name))
      return bad("'route' takes logits, a number of experts, and a boolean");
    int64_t experts = cast<RankedTensorType>(logits.getType()).getShape()[1];
    if (count->second > experts)
      return invalidArgument(values_.origin.at(count->first) + " is " + std::to_string(count->second) +
                             ", expected at most the number of experts, " + std::to_string(experts));
    auto type = RankedTensorType::get({ShapedType::kDynamic, count->second, 2}, f32_);
    return Value(llm::RouteOp::create(body_, named(name), type, logits, count->second,
                                      values_.booleans.at(call.arguments[2].name)));
  }

  Result<Value> expertLinear(const Expression &call, const std::string &name) {
    DISTC_ASSIGN(Value x, operand(call, 0, name));
    DISTC_ASSIGN(Value routes, operand(call, 1, name));
    DISTC_ASSIGN(llm::ParamOp matrix, weight(call, 2));
    if (matrix.getTensorType().getRank() != 3)
      return bad("expert_linear: weight '" + call.arguments[2].name + "' has not three dimensions");
    auto type = RankedTensorType::get({ShapedType::kDynamic, cast<RankedTensorType>(routes.getType()).getShape()[1],
                                       matrix.getTensorType().getShape()[1]},
                                      activation_);
    return Value(llm::ExpertLinearOp::create(body_, named(name), type, x, routes, matrix.getSymName()));
  }

  Result<Value> combine(const Expression &call, const std::string &name) {
    DISTC_ASSIGN(Value x, operand(call, 0, name));
    DISTC_ASSIGN(Value routes, operand(call, 1, name));
    auto type = cast<RankedTensorType>(x.getType());
    return Value(llm::CombineOp::create(
        body_, named(name),
        RankedTensorType::get({ShapedType::kDynamic, type.getShape().back()}, type.getElementType()), x, routes));
  }

  Result<double> number(const Expression &call, size_t index) {
    if (index < call.arguments.size())
      if (auto it = values_.numbers.find(call.arguments[index].name); it != values_.numbers.end())
        return it->second;
    return bad("'" + call.name + "' takes a number as argument " + std::to_string(index + 1));
  }

  // Weights -----------------------------------------------------------------------------------------------------------

  const WeightRule *findRule(const std::string &name) const {
    const std::map<std::string, WeightRule> &rules =
        layer_ < 0 ? source_.family->weights : source_.family->layerWeights;
    auto it = rules.find(name);
    return it == rules.end() ? nullptr : &it->second;
  }

  bool exists(const std::string &name) const {
    const WeightRule *rule = findRule(name);
    return rule && (rule->condition.empty() || values_.boolean(rule->condition, layer_));
  }

  /// The param of a weight, declared on its first use.
  Result<llm::ParamOp> weight(const Expression &call, size_t index) {
    if (index >= call.arguments.size() || !findRule(call.arguments[index].name))
      return bad("'" + call.name + "' takes a weight as argument " + std::to_string(index + 1));
    std::string name = call.arguments[index].name;
    const WeightRule *rule = findRule(name);
    if (!rule->sameAs.empty() && values_.booleans.at(rule->sameIf)) {
      name = rule->sameAs;
      rule = findRule(name);
    }
    llm::ParamOp &param = params_[prefix_ + name];
    if (!param) {
      DISTC_ASSIGN(std::vector<import::TensorEntry> tensors, import::findTensors(source_, *rule, layer_));
      param = declare(prefix_ + name, *rule, tensors);
      if (parameters_ > kMaxParameters)
        return invalidArgument(source_.path + ": the sizes that it states come to more than 2^50 parameters");
    }
    return param;
  }

  FlatSymbolRefAttr declare(const import::TensorEntry &tensor) {
    if (!tensors_.insert(tensor.name).second) // several weights may be parts of one
      return FlatSymbolRefAttr::get(&context_, tensor.name);
    SmallVector<int64_t> fileShape(tensor.shape.begin(), tensor.shape.end());
    Location location = NameLoc::get(symbols_.getStringAttr(tensor.name), fileLocation_);
    FlatSymbolRefAttr file;
    if (source_.weights)
      file = FlatSymbolRefAttr::get(&context_, "file" + std::to_string(tensor.file));
    auto symbol = llm::TensorOp::create(
        symbols_, location, symbols_.getStringAttr(tensor.name), symbols_.getDenseI64ArrayAttr(fileShape),
        llm::DTypeAttr::get(&context_, static_cast<llm::DType>(*tensor.dtype)), file,
        symbols_.getI64IntegerAttr(tensor.offset), symbols_.getI64IntegerAttr(tensor.bytes));
    return FlatSymbolRefAttr::get(symbol.getSymNameAttr());
  }

  llm::ParamOp declare(const std::string &name, const WeightRule &rule,
                       const std::vector<import::TensorEntry> &tensors) {
    const import::TensorEntry &first = tensors[0];
    Location location = NameLoc::get(symbols_.getStringAttr(first.name), fileLocation_);
    import::WeightLayout layout = import::weightLayout(source_, rule);
    const std::vector<int64_t> sizes = layout.shape;
    if (import::isStacked(source_, rule)) // each tensor is one index of dimension 0
      layout.shape[0] = layout.view[0] = 1;
    SmallVector<DenseI64ArrayAttr> slices;
    SmallVector<StringRef> dims;
    int64_t fanIn = 1; // the last dimension of the matrix is summed over
    for (const std::vector<std::string> &group : rule.shape)
      for (const std::string &dim : group) {
        const size_t at = dims.size();
        dims.push_back(dim);
        slices.push_back(symbols_.getDenseI64ArrayAttr({at == 0 ? layout.first : 0, layout.shape[at]}));
        fanIn *= rule.shape.size() > 1 && &group == &rule.shape.back() ? sizes[at] : 1;
      }
    SmallVector<Attribute> sources;
    plan::DType dtype = *first.dtype;
    for (const import::TensorEntry &tensor : tensors) {
      sources.push_back(llm::SourceAttr::get(&context_, declare(tensor), layout.view, slices, layout.transposed));
      if (*tensor.dtype != dtype)
        dtype = plan::DType::F32;
    }
    auto type = RankedTensorType::get(sizes, f32_);
    parameters_ += type.getNumElements();
    // Vectors (norms, biases) are small, and kernels read them as f32.
    Type element = first.shape.size() == 1 ? f32_ : target_ == "cpu" ? elementType(&context_, dtype) : activation_;
    llm::Init init = llm::symbolizeInit(rule.init).value_or(llm::Init::Uniform);
    return llm::ParamOp::create(symbols_, location, name, type.clone(element), symbols_.getStrArrayAttr(dims),
                                symbols_.getArrayAttr(sources), shard::GridAxesArrayAttr(), /*first_only=*/false, init,
                                llvm::APFloat(static_cast<float>(1 / std::sqrt(static_cast<double>(fanIn)))));
  }

  Status bad(const std::string &what) const {
    return invalidArgument("models/families/" + source_.family->name + ".json: " + what);
  }

  MLIRContext &context_;
  const ModelSource &source_;
  const import::ModelValues &values_;
  const Limits &limits_;
  std::string target_;
  OpBuilder symbols_, body_;
  Type f32_, activation_;
  Location fileLocation_;
  Value batch_;
  int64_t layer_ = -1, parameters_ = 0;
  std::string prefix_;
  std::map<std::string, Value> environment_;
  std::map<std::string, llm::ParamOp> params_;
  std::set<std::string> tensors_;
};

} // namespace

Result<OwningOpRef<ModuleOp>> buildModel(MLIRContext &context, const ModelSource &source, const Limits &limits,
                                         const std::string &target) {
  return ModelBuilder(context, source, limits, target).build();
}

} // namespace distc
