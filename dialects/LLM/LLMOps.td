// The ops of the llm dialect: what a checkpoint holds first, then the program.
#ifndef DISTC_LLM_OPS_TD
#define DISTC_LLM_OPS_TD

include "dialects/LLM/LLMDialect.td"
include "dialects/LLM/LLMInterfaces.td"
include "mlir/IR/SymbolInterfaces.td"
include "mlir/Interfaces/SideEffectInterfaces.td"
include "mlir/Dialect/Shard/IR/ShardBase.td"

class LLM_Op<string mnemonic, list<Trait> traits = []> : Op<LLM_Dialect, mnemonic, traits>;

// ---------------------------------------------------------------------------------------------------------- checkpoint

def LLM_FileOp : LLM_Op<"file", [Symbol]> {
  let summary = "a file of the checkpoint";
  let description = [{
    Identified by its size and the XXH3-64 of its header (the bytes before the tensor data).

    ```mlir
    llm.file @file0 "model.safetensors" size 2234960 header 2960 hash 1234567
    ```
  }];
  let arguments = (ins SymbolNameAttr:$sym_name, StrAttr:$path, I64Attr:$size, I64Attr:$header_bytes,
                       I64Attr:$header_hash);
  let assemblyFormat = "$sym_name $path `size` $size `header` $header_bytes `hash` $header_hash attr-dict";
}

def LLM_TensorOp : LLM_Op<"tensor", [Symbol, DeclareOpInterfaceMethods<SymbolUserOpInterface>]> {
  let summary = "a tensor as it lies in a file";
  let description = [{
    Without `in`, the tensor is in no file: a model compiled from its shape alone.

    ```mlir
    llm.tensor @"model.norm.weight" [128] bf16 in @file0 at 2960 bytes 256
    ```
  }];
  let arguments = (ins SymbolNameAttr:$sym_name, DenseI64ArrayAttr:$shape, LLM_DTypeAttr:$dtype,
                       OptionalAttr<FlatSymbolRefAttr>:$file, I64Attr:$offset, I64Attr:$bytes);
  let assemblyFormat = "$sym_name $shape $dtype (`in` $file^)? `at` $offset `bytes` $bytes attr-dict";
}

def LLM_Weights : RankedTensorOf<[F32, F16, BF16, LLM_QuantizedType]>;

def LLM_ParamOp : LLM_Op<"param", [Symbol, DeclareOpInterfaceMethods<SymbolUserOpInterface>]> {
  let summary = "a weight, made of slices of the checkpoint's tensors";
  let description = [{
    `dims` names each dimension of the type. The sources are stacked along dimension 0. After the partition the type is
    one rank's, `sharded` says along which grid axis each dimension is split, and the sources are still those of all ranks
    together. `first_only`: rank 0 of the split holds it and the others hold zeros (a bias that is added to a partial sum).

    ```mlir
    llm.param @layers.0.q : tensor<9x64x576xbf16> dims ["heads", "head_dim", "hidden"]
      from [#llm.source<@"model.layers.0.self_attn.q_proj.weight"[9, 64, 576] [0:9] [0:64] [0:576]>]
    ```
  }];
  let arguments = (ins SymbolNameAttr:$sym_name, TypeAttrOf<LLM_Weights>:$type, StrArrayAttr:$dims,
                       TypedArrayAttrBase<LLM_SourceAttr, "sources">:$sources,
                       OptionalAttr<Shard_GridAxesArrayAttr>:$sharding, UnitAttr:$first_only,
                       DefaultValuedAttr<LLM_InitAttr, "::distc::llm::Init::Uniform">:$init,
                       DefaultValuedAttr<F32Attr, "1.0f">:$init_scale);
  let assemblyFormat = [{
    $sym_name `:` $type `dims` $dims `from` $sources (`sharded` $sharding^)? (`first_only` $first_only^)? attr-dict
  }];
  let hasVerifier = 1;
  let extraClassDeclaration = [{
    ::mlir::RankedTensorType getTensorType() { return ::llvm::cast<::mlir::RankedTensorType>(getType()); }
    /// The shape over all ranks: that of the stacked sources.
    ::llvm::SmallVector<int64_t> getLogicalShape();
    /// The dimension that is split over the tensor-parallel axis, if one is.
    std::optional<unsigned> getSplitDim();
  }];
}

def LLM_KvCacheOp : LLM_Op<"kv_cache", [Symbol]> {
  let summary = "the paged KV cache of one layer";
  let description = [{
    ```mlir
    llm.kv_cache @layers.0.kv layer 0 : !llm.kv_cache<heads 3, dim 64, f32>
    ```
  }];
  let arguments = (ins SymbolNameAttr:$sym_name, I64Attr:$layer, TypeAttrOf<LLM_KvCacheType>:$type, UnitAttr:$sharded);
  let assemblyFormat = "$sym_name `layer` $layer (`sharded` $sharded^)? `:` $type attr-dict";
  let extraClassDeclaration = [{
    ::distc::llm::KvCacheType getCacheType() { return ::llvm::cast<::distc::llm::KvCacheType>(getType()); }
  }];
}

def LLM_RopeTableOp : LLM_Op<"rope_table", [Symbol]> {
  let summary = "the frequencies of a rotary position embedding";
  let description = [{
    Position p turns pair i by p · inv_freq[i]; cos and sin are multiplied by `magnitude`. Scaling that depends on the
    length of the sequence is several sets of frequencies, one after the other: the first for sequences of up to over[0]
    tokens, set i for those of more than over[i-1].

    ```mlir
    llm.rope_table @rope [1.0, 0.1] magnitude 1.0
    llm.rope_table @long [1.0, 0.1, 0.5, 0.05] magnitude 1.19 over [4096]
    ```
  }];
  let arguments = (ins SymbolNameAttr:$sym_name, F64ArrayAttr:$inv_freq, F64Attr:$magnitude,
                       DefaultValuedAttr<DenseI64ArrayAttr, "::llvm::ArrayRef<int64_t>()">:$over);
  let assemblyFormat = "$sym_name $inv_freq `magnitude` $magnitude (`over` $over^)? attr-dict";
  let extraClassDeclaration = [{
    /// How many pairs of elements its angles are for.
    int64_t getPairs() { return getInvFreq().size() / (1 + getOver().size()); }
  }];
}

// ------------------------------------------------------------------------------------------------------------- program

def LLM_Rows : RankedTensorOf<[F32, F16, BF16], [HasAnyRankOfPred<[2, 3]>], "rows of one or two dimensions">;
// What is sampled from, and sums of squares, have one type on every target.
def LLM_F32Rows : RankedTensorOf<[F32], [HasAnyRankOfPred<[2, 3]>], "rows of f32, of one or two dimensions">;
def LLM_Ids : RankedTensorOf<[I32]>;

class LLM_ComputeOp<string mnemonic, list<Trait> traits = []> : LLM_Op<mnemonic, traits # [
  DeclareOpInterfaceMethods<LLM_TensorParallelOpInterface>, DeclareOpInterfaceMethods<SymbolUserOpInterface>]> {
  // Types agree with the params and operands: checked by the op's own shape rule.
  let extraClassDefinition = [{
    ::llvm::LogicalResult $cppClass::verifySymbolUses(::mlir::SymbolTableCollection &tables) {
      return ::distc::llm::verifyInferredType(*this, tables);
    }
  }];
}

def LLM_EmbeddingOp : LLM_ComputeOp<"embedding", [Pure]> {
  let summary = "rows of a table by token id";
  let description = [{
    With a table split by vocabulary, ids of other ranks give zeros and the result is a partial sum.

    ```mlir
    %x = llm.embedding %batch, @embedding : tensor<?x576xf32>
    ```
  }];
  let arguments = (ins LLM_BatchType:$batch, FlatSymbolRefAttr:$weight);
  let results = (outs LLM_Rows:$result);
  let assemblyFormat = "$batch `,` $weight attr-dict `:` type($result)";
}

def LLM_RmsNormOp : LLM_ComputeOp<"rms_norm", [Pure, AllTypesMatch<["input", "result"]>]> {
  let summary = "x / sqrt(mean(x²) + eps) · (weight + offset), over the weight's dimensions";
  let description = [{
    A weight of one dimension gives each head a norm of its own, so heads may be split; one of all dimensions after the rows makes all heads
    together one norm. Where these are split, the partition adds column `column` of `squares`, the sums of squares over all ranks, of `elements`
    elements, copies of heads among them.

    ```mlir
    %n = llm.rms_norm %x, @layers.0.attention_norm eps 1.0e-5 : tensor<?x576xf32>
    %h = llm.rms_norm %q, @layers.0.q_norm eps 1.0e-6 : tensor<?x9x64xf32>
    ```
  }];
  let arguments = (ins LLM_Rows:$input, FlatSymbolRefAttr:$weight, F32Attr:$eps,
                       DefaultValuedAttr<F32Attr, "0.0f">:$offset, Optional<LLM_F32Rows>:$squares,
                       DefaultValuedAttr<I64Attr, "0">:$column, DefaultValuedAttr<I64Attr, "0">:$elements);
  let results = (outs LLM_Rows:$result);
  let assemblyFormat = [{
    $input `,` $weight `eps` $eps (`squares` $squares^ `:` type($squares))? attr-dict `:` type($result)
  }];
}

def LLM_SquareSumOp : LLM_ComputeOp<"square_sum", [Pure]> {
  let summary = "sum of the squares of each row, a column for each input";
  let description = [{
    What a norm over split heads is made of. Of split values it is a partial sum.

    ```mlir
    %s = llm.square_sum %q, %k : tensor<?x9x64xf32>, tensor<?x3x64xf32> -> tensor<?x2xf32>
    ```
  }];
  let arguments = (ins Variadic<LLM_Rows>:$inputs);
  let results = (outs LLM_F32Rows:$result);
  let assemblyFormat = "$inputs attr-dict `:` type($inputs) `->` type($result)";
}

def LLM_ScaleOp : LLM_ComputeOp<"scale", [Pure, AllTypesMatch<["input", "result"]>]> {
  let summary = "x · factor";
  let description = [{
    Of a share of a sum too.

    ```mlir
    %y = llm.scale %x by 1.2e+01 : tensor<?x576xf32>
    ```
  }];
  let arguments = (ins LLM_Rows:$input, F32Attr:$factor);
  let results = (outs LLM_Rows:$result);
  let assemblyFormat = "$input `by` $factor attr-dict `:` type($result)";
}

def LLM_SoftCapOp : LLM_ComputeOp<"soft_cap", [Pure, AllTypesMatch<["input", "result"]>]> {
  let summary = "cap · tanh(x / cap)";
  let description = [{
    Source: Gemma Team, Gemma 2, arXiv:2408.00118.

    ```mlir
    %y = llm.soft_cap %x at 3.0e+01 : tensor<?x49152xf32>
    ```
  }];
  let arguments = (ins LLM_Rows:$input, F32Attr:$cap);
  let results = (outs LLM_Rows:$result);
  let assemblyFormat = "$input `at` $cap attr-dict `:` type($result)";
}

def LLM_LayerNormOp : LLM_ComputeOp<"layer_norm", [Pure, AllTypesMatch<["input", "result"]>]> {
  let summary = "(x - mean(x)) / sqrt(mean((x - mean(x))²) + eps) · weight + bias, over the last dimension";
  let description = [{
    Source: Ba, Kiros, Hinton, Layer Normalization, arXiv:1607.06450.

    ```mlir
    %n = llm.layer_norm %x, @layers.0.attention_norm bias @layers.0.attention_norm_bias eps 1.0e-5 : tensor<?x768xf32>
    ```
  }];
  let arguments = (ins LLM_Rows:$input, FlatSymbolRefAttr:$weight, OptionalAttr<FlatSymbolRefAttr>:$bias, F32Attr:$eps);
  let results = (outs LLM_Rows:$result);
  let assemblyFormat = "$input `,` $weight (`bias` $bias^)? `eps` $eps attr-dict `:` type($result)";
}

def LLM_PositionEmbeddingOp : LLM_ComputeOp<"position_embedding", [Pure, AllTypesMatch<["input", "result"]>]> {
  let summary = "adds the row of a table at each token's position";
  let description = [{
    Of a partial sum one rank adds the rows, and the result is a partial sum.

    ```mlir
    %y = llm.position_embedding %x, %batch, @positions : tensor<?x768xf32>
    ```
  }];
  let arguments = (ins LLM_Rows:$input, LLM_BatchType:$batch, FlatSymbolRefAttr:$weight);
  let results = (outs LLM_Rows:$result);
  let assemblyFormat = "$input `,` $batch `,` $weight attr-dict `:` type($result)";
}

def LLM_LinearOp : LLM_ComputeOp<"linear", [Pure]> {
  let summary = "contraction of each row with a weight";
  let description = [{
    The weight's last dimensions are the input's dimensions after the rows, and are summed over; its first ones are the
    result's. So a query projection is `[heads, head_dim, hidden]` and an output projection `[hidden, heads, head_dim]`:
    column and row parallelism are a split of dimension 0 and 1. The result's element type is the input's, or f32, as that
    of logits always is.

    ```mlir
    %q = llm.linear %n, @layers.0.q : tensor<?x576xf32> -> tensor<?x9x64xf32>
    %q = llm.linear %n, @layers.0.q bias @layers.0.q_bias : tensor<?x576xf32> -> tensor<?x9x64xf32>
    %z = llm.linear %y, @head : tensor<?x576xbf16> -> tensor<?x49152xf32>
    ```
  }];
  let arguments = (ins LLM_Rows:$input, FlatSymbolRefAttr:$weight, OptionalAttr<FlatSymbolRefAttr>:$bias);
  let results = (outs LLM_Rows:$result);
  let assemblyFormat = "$input `,` $weight (`bias` $bias^)? attr-dict `:` type($input) `->` type($result)";
}

def LLM_RopeOp : LLM_ComputeOp<"rope", [Pure, AllTypesMatch<["input", "result"]>]> {
  let summary = "rotary position embedding of each head";
  let description = [{
    Source: Su et al., RoFormer, arXiv:2104.09864. `half` pairs element i with i + d/2, `interleaved` 2i with 2i + 1, where
    d is twice the pairs of the table; elements of the head from d on stay as they are.

    ```mlir
    %r = llm.rope %q, %batch, @rope half : tensor<?x9x64xf32>
    ```
  }];
  let arguments = (ins LLM_Rows:$input, LLM_BatchType:$batch, FlatSymbolRefAttr:$table, LLM_RopeStyleAttr:$style);
  let results = (outs LLM_Rows:$result);
  let assemblyFormat = "$input `,` $batch `,` $table $style attr-dict `:` type($result)";
}

def LLM_KvAppendOp : LLM_ComputeOp<"kv_append", [MemoryEffects<[MemWrite]>, AllTypesMatch<["k", "v"]>]> {
  let summary = "writes keys and values of the batch's tokens into a cache";
  let description = [{
    ```mlir
    llm.kv_append %k, %v, %batch, @layers.0.kv : tensor<?x3x64xf32>
    ```
  }];
  let arguments = (ins LLM_Rows:$k, LLM_Rows:$v, LLM_BatchType:$batch, FlatSymbolRefAttr:$cache);
  let assemblyFormat = "$k `,` $v `,` $batch `,` $cache attr-dict `:` type($k)";
}

def LLM_AttentionOp : LLM_ComputeOp<"attention", [MemoryEffects<[MemRead]>, AllTypesMatch<["q", "result"]>]> {
  let summary = "causal attention of each token over its sequence's cache";
  let description = [{
    Query head h reads KV head h / (heads / cache heads) (grouped-query attention, arXiv:2305.13245). `window` > 0: only the
    last `window` positions. `soft_cap` c > 0: scores s become c · tanh(s / c).

    ```mlir
    %a = llm.attention %r, %batch, @layers.0.kv scale 1.25e-1 : tensor<?x9x64xf32>
    ```
  }];
  let arguments = (ins LLM_Rows:$q, LLM_BatchType:$batch, FlatSymbolRefAttr:$cache, F32Attr:$scale,
                       DefaultValuedAttr<I64Attr, "0">:$window, DefaultValuedAttr<F32Attr, "0.0f">:$soft_cap);
  let results = (outs LLM_Rows:$result);
  let assemblyFormat = "$q `,` $batch `,` $cache `scale` $scale attr-dict `:` type($result)";
}

def LLM_AddOp : LLM_ComputeOp<"add", [Pure, AllTypesMatch<["lhs", "rhs", "result"]>]> {
  let summary = "elementwise sum (the residual connection)";
  let description = [{
    ```mlir
    %y = llm.add %x, %o : tensor<?x576xf32>
    ```
  }];
  let arguments = (ins LLM_Rows:$lhs, LLM_Rows:$rhs);
  let results = (outs LLM_Rows:$result);
  let assemblyFormat = "$lhs `,` $rhs attr-dict `:` type($result)";
}

def LLM_GluOp : LLM_ComputeOp<"glu", [Pure, AllTypesMatch<["gate", "up", "result"]>]> {
  let summary = "activation(gate) · up";
  let description = [{
    Source: Shazeer, GLU Variants Improve Transformer, arXiv:2002.05202.

    ```mlir
    %h = llm.glu silu %gate, %up : tensor<?x1536xf32>
    ```
  }];
  let arguments = (ins LLM_ActivationAttr:$activation, LLM_Rows:$gate, LLM_Rows:$up);
  let results = (outs LLM_Rows:$result);
  let assemblyFormat = "$activation $gate `,` $up attr-dict `:` type($result)";
}

def LLM_ActivateOp : LLM_ComputeOp<"activate", [Pure, AllTypesMatch<["input", "result"]>]> {
  let summary = "an activation function, element by element";
  let description = [{
    ```mlir
    %h = llm.activate gelu_tanh %u : tensor<?x3072xf32>
    ```
  }];
  let arguments = (ins LLM_ActivationAttr:$activation, LLM_Rows:$input);
  let results = (outs LLM_Rows:$result);
  let assemblyFormat = "$activation $input attr-dict `:` type($result)";
}

def LLM_RouteOp : LLM_ComputeOp<"route", [Pure]> {
  let summary = "which experts each row goes to, and how much each of them counts";
  let description = [{
    Source: Shazeer et al., Outrageously Large Neural Networks, arXiv:1701.06538; Jiang et al., Mixtral of Experts,
    arXiv:2401.04088. For each row `count` pairs of weight and id: the largest logits, descending, ties to the lower id. The
    weights are the softmax over all logits, with `normalize` over those chosen. The logits must be whole on every rank, so that all
    ranks choose alike.

    ```mlir
    %r = llm.route %z count 2 normalize : tensor<?x8xf32> -> tensor<?x2x2xf32>
    ```
  }];
  let arguments = (ins LLM_F32Rows:$logits, I64Attr:$count, UnitAttr:$normalize);
  let results = (outs LLM_F32Rows:$result);
  let assemblyFormat = [{
    $logits `count` $count (`normalize` $normalize^)? attr-dict `:` type($logits) `->` type($result)
  }];
}

def LLM_ExpertLinearOp : LLM_ComputeOp<"expert_linear", [Pure]> {
  let summary = "contraction of each row with the weights of the experts that it goes to";
  let description = [{
    The weight is `[experts, rows, columns]`. The input has one row of `columns` for all of a row's experts, or one for each of them;
    the result has one for each. So gate and up projections of all experts are split by their rows, and down projections by
    their columns, as those of an MLP.

    ```mlir
    %g = llm.expert_linear %m, %r, @layers.0.gate : tensor<?x64xf32>, tensor<?x2x2xf32> -> tensor<?x2x128xf32>
    %d = llm.expert_linear %h, %r, @layers.0.down : tensor<?x2x128xf32>, tensor<?x2x2xf32> -> tensor<?x2x64xf32>
    ```
  }];
  let arguments = (ins LLM_Rows:$input, LLM_F32Rows:$routes, FlatSymbolRefAttr:$weight);
  let results = (outs LLM_Rows:$result);
  let assemblyFormat = [{
    $input `,` $routes `,` $weight attr-dict `:` type($input) `,` type($routes) `->` type($result)
  }];
}

def LLM_CombineOp : LLM_ComputeOp<"combine", [Pure]> {
  let summary = "sum of what a row's experts return, by their weights";
  let description = [{
    ```mlir
    %y = llm.combine %d, %r : tensor<?x2x64xf32>, tensor<?x2x2xf32> -> tensor<?x64xf32>
    ```
  }];
  let arguments = (ins LLM_Rows:$input, LLM_F32Rows:$routes);
  let results = (outs LLM_Rows:$result);
  let assemblyFormat = "$input `,` $routes attr-dict `:` type($input) `,` type($routes) `->` type($result)";
}

def LLM_LayerOp : LLM_ComputeOp<"layer", [Pure, AllTypesMatch<["input", "result"]>]> {
  let summary = "marks where a layer begins: a place to cut the pipeline";
  let description = [{
    The identity. `split-pipeline` cuts at these and removes them.

    ```mlir
    %x1 = llm.layer 1 %x0 : tensor<?x576xf32>
    ```
  }];
  let arguments = (ins I64Attr:$index, LLM_Rows:$input);
  let results = (outs LLM_Rows:$result);
  let assemblyFormat = "$index $input attr-dict `:` type($result)";
}

def LLM_SelectOutputsOp : LLM_ComputeOp<"select_outputs", [Pure, AllTypesMatch<["input", "result"]>]> {
  let summary = "the rows that are sampled from";
  let description = [{
    In a decode program every row is an output, and the op folds away.

    ```mlir
    %y = llm.select_outputs %x, %batch : tensor<?x576xf32>
    ```
  }];
  let arguments = (ins LLM_Rows:$input, LLM_BatchType:$batch);
  let results = (outs LLM_Rows:$result);
  let assemblyFormat = "$input `,` $batch attr-dict `:` type($result)";
  let hasFolder = 1;
}

def LLM_TopCandidatesOp : LLM_ComputeOp<"top_candidates", [Pure]> {
  let summary = "what sampling needs of the logits";
  let description = [{
    For each row `count` largest logits with their ids, the largest perturbed logit, and the log-sum-exp: a few kilobytes
    that ranks exchange instead of the logits. Columns from `vocabulary` on are padding and are masked. Over logits split by
    vocabulary each rank makes its own rows, stacked.

    ```mlir
    %c = llm.top_candidates %logits, %batch count 256 vocabulary 49152 : tensor<?x49152xf32> -> tensor<?x258x2xf32>
    ```
  }];
  let arguments = (ins LLM_F32Rows:$logits, LLM_BatchType:$batch, I64Attr:$count, I64Attr:$vocabulary);
  let results = (outs LLM_F32Rows:$result);
  let assemblyFormat = [{
    $logits `,` $batch `count` $count `vocabulary` $vocabulary attr-dict `:` type($logits) `->` type($result)
  }];
}

def LLM_SampleOp : LLM_ComputeOp<"sample", [Pure]> {
  let summary = "one id per output, from the candidates of all ranks";
  let description = [{
    ```mlir
    %ids = llm.sample %c, %batch : tensor<?x258x2xf32> -> tensor<?xi32>
    ```
  }];
  let arguments = (ins LLM_F32Rows:$candidates, LLM_BatchType:$batch);
  let results = (outs LLM_Ids:$result);
  let assemblyFormat = "$candidates `,` $batch attr-dict `:` type($candidates) `->` type($result)";
}

#endif
