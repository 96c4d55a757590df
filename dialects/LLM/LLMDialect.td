// The llm dialect: a decoder-only transformer on logical shapes. Its types, attributes and enums.
#ifndef DISTC_LLM_DIALECT_TD
#define DISTC_LLM_DIALECT_TD

include "mlir/IR/OpBase.td"
include "mlir/IR/AttrTypeBase.td"
include "mlir/IR/EnumAttr.td"
include "mlir/IR/BuiltinAttributeInterfaces.td"

def LLM_Dialect : Dialect {
  let name = "llm";
  let cppNamespace = "::distc::llm";
  let summary = "Decoder-only transformers on logical shapes";
  let description = [{
    A program of this dialect is a whole model: what the checkpoint holds (`llm.file`, `llm.tensor`), the weights as
    symbols with the slices of the tensors that they are made of (`llm.param`), the paged KV caches (`llm.kv_cache`), and
    a straight line of ops over the ragged batch of one step.

    Activations are tensors `tensor<?x…xf32>`, on a GPU of bf16 or f16: dimension 0 is the rows, one for each token of the
    batch. Logits and candidates are f32 on every target. Heads are a dimension of their own (`tensor<?x9x64xf32>`), so that
    splitting a model by heads is splitting a dimension, and a degree that does not divide the heads is seen in the types.

    The named dimensions of a param decide how it is sharded: `heads`, `kv_heads`, `intermediate` and `vocabulary` are
    split over the tensor-parallel ranks, all others are whole on each.
  }];
  let useDefaultTypePrinterParser = 1;
  let useDefaultAttributePrinterParser = 1;
  let dependentDialects = ["::mlir::shard::ShardDialect"];
}

// Types ---------------------------------------------------------------------------------------------------------------

class LLM_Type<string name, string typeMnemonic> : TypeDef<LLM_Dialect, name> {
  let mnemonic = typeMnemonic;
}

def LLM_BatchType : LLM_Type<"Batch", "batch"> {
  let summary = "the batch descriptor of one step";
  let description = [{
    Token ids, positions, sequence starts, block table, outputs and sampling parameters of one step: all that the host
    hands to a program. `docs/plan-format.md` states its fields.
  }];
}

def LLM_KvCacheType : LLM_Type<"KvCache", "kv_cache"> {
  let summary = "the paged KV cache of one layer";
  let description = [{
    Keys and values of every sequence at one layer, in blocks that the batch's block table names.

    Example: `!llm.kv_cache<heads 3, dim 64, f32>`
  }];
  let parameters = (ins "int64_t":$heads, "int64_t":$headDim, "::mlir::Type":$elementType);
  let assemblyFormat = "`<` `heads` $heads `,` `dim` $headDim `,` $elementType `>`";
  let genVerifyDecl = 1;
}

// Enums: the values are those of runtime/schema/plan.fbs --------------------------------------------------------------

class LLM_Enum<string name, string summary, list<I32EnumAttrCase> cases> : I32EnumAttr<name, summary, cases> {
  let cppNamespace = "::distc::llm";
  let genSpecializedAttr = 0;
}

def LLM_DType : LLM_Enum<"DType", "element type of a tensor in a file", [
  I32EnumAttrCase<"F32", 0, "f32">, I32EnumAttrCase<"F16", 1, "f16">, I32EnumAttrCase<"BF16", 2, "bf16">,
  I32EnumAttrCase<"I32", 3, "i32">, I32EnumAttrCase<"Q8_0", 4, "q8_0">, I32EnumAttrCase<"Q4_1", 5, "q4_1">,
  I32EnumAttrCase<"Q4_0", 6, "q4_0">, I32EnumAttrCase<"Q5_0", 7, "q5_0">, I32EnumAttrCase<"Q5_1", 8, "q5_1">,
  I32EnumAttrCase<"Q2_K", 9, "q2_k">, I32EnumAttrCase<"Q3_K", 10, "q3_k">, I32EnumAttrCase<"Q4_K", 11, "q4_k">,
  I32EnumAttrCase<"Q5_K", 12, "q5_k">, I32EnumAttrCase<"Q6_K", 13, "q6_k">
]>;
def LLM_DTypeAttr : EnumAttr<LLM_Dialect, LLM_DType, "dtype">;

def LLM_QuantizedType : LLM_Type<"Quantized", "quantized"> {
  let summary = "an element of a matrix that stays in GGUF's blocks";
  let description = [{
    The elements of a row lie in blocks of 32 or 256, which no slice cuts.

    Example: `tensor<1536x576x!llm.quantized<q4_1>>`
  }];
  let parameters = (ins EnumParameter<LLM_DType>:$dtype);
  let assemblyFormat = "`<` $dtype `>`";
  let genVerifyDecl = 1;
}

def LLM_Init : LLM_Enum<"Init", "what random weights put into a param", [
  I32EnumAttrCase<"Uniform", 0, "uniform">, I32EnumAttrCase<"Ones", 1, "ones">, I32EnumAttrCase<"Zeros", 2, "zeros">
]>;
def LLM_InitAttr : EnumAttr<LLM_Dialect, LLM_Init, "init">;

def LLM_RopeStyle : LLM_Enum<"RopeStyle", "which elements of a head rotary embedding pairs", [
  I32EnumAttrCase<"Half", 0, "half">, I32EnumAttrCase<"Interleaved", 1, "interleaved">
]>;
def LLM_RopeStyleAttr : EnumAttr<LLM_Dialect, LLM_RopeStyle, "rope_style">;

def LLM_Activation : LLM_Enum<"Activation", "activation function", [
  I32EnumAttrCase<"Silu", 0, "silu">, I32EnumAttrCase<"Gelu", 1, "gelu">, I32EnumAttrCase<"GeluTanh", 2, "gelu_tanh">,
  I32EnumAttrCase<"Relu", 3, "relu">
]>;
def LLM_ActivationAttr : EnumAttr<LLM_Dialect, LLM_Activation, "activation">;

// Attributes ----------------------------------------------------------------------------------------------------------

def LLM_SourceAttr : AttrDef<LLM_Dialect, "Source"> {
  let mnemonic = "source";
  let summary = "slices of a checkpoint tensor";
  let description = [{
    The elements of `tensor`, read as a row-major array of shape `view`, of which each dimension takes a list of segments
    in order. A segment is `begin:count`, or `zero:count` for zeros that no file holds. Repeating a segment repeats its
    elements: this is how a KV head is replicated. `transposed n`: the first n dimensions of the view come last in the tensor.

    Example: 9 heads of 64 rows, padded to 10: `#llm.source<@"blk.0.attn_q.weight"[9, 64, 576] [0:9, zero:1] [0:64] [0:576]>`
  }];
  let parameters = (ins "::mlir::FlatSymbolRefAttr":$tensor, ArrayRefParameter<"int64_t">:$view,
                        ArrayRefParameter<"::mlir::DenseI64ArrayAttr">:$slices,
                        DefaultValuedParameter<"int64_t", "0">:$transposed);
  let assemblyFormat = "`<` $tensor `[` $view `]` (`transposed` $transposed^)? custom<Slices>($slices) `>`";
  let genVerifyDecl = 1;
  let extraClassDeclaration = [{
    /// `begin` of a segment of zeros.
    static constexpr int64_t kZero = -1;
    /// Elements of dimension `dim` of the slice: the sum of the segments' counts.
    int64_t getCount(unsigned dim) const;
    ::llvm::SmallVector<int64_t> getShape() const;
  }];
}

#endif
