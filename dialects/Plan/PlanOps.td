// The ops of the plan dialect, in the order of the schema: declarations, buffers, instructions.
#ifndef DISTC_PLAN_OPS_TD
#define DISTC_PLAN_OPS_TD

include "dialects/LLM/LLMDialect.td"
include "dialects/Plan/PlanDialect.td"
include "dialects/Plan/PlanInterfaces.td"
include "mlir/IR/SymbolInterfaces.td"
include "mlir/Interfaces/SideEffectInterfaces.td"

class Plan_Op<string mnemonic, list<Trait> traits = []> : Op<Plan_Dialect, mnemonic, traits>;
// What stands in a plan, and what stands in a program of it.
class Plan_RankMember<string mnemonic, list<Trait> traits = []> : Plan_Op<mnemonic, [HasParent<"RankOp">] # traits>;
class Plan_ProgramMember<string mnemonic, list<Trait> traits = []> : Plan_Op<mnemonic,
    [HasParent<"ProgramOp">] # traits>;

// The schema's integers: what does not fit a field is not written.
def Plan_U32 : ConfinedAttr<I64Attr, [IntNonNegative, IntMaxValue<4294967295>]>;
def Plan_U64 : ConfinedAttr<I64Attr, [IntNonNegative]>;

// -------------------------------------------------------------------------------------------------------- declarations

def Plan_RankOp : Plan_Op<"rank", [Symbol, SymbolTable, IsolatedFromAbove, NoTerminator, SingleBlock]> {
  let summary = "the plan of one rank: one file";
  let description = [{
    ```mlir
    plan.rank @rank0 producer "distc 0.1.0" target "cpu" passes ["pad"] { … }
    ```
  }];
  let arguments = (ins SymbolNameAttr:$sym_name, StrAttr:$producer, StrAttr:$target, StrArrayAttr:$passes);
  let regions = (region SizedRegion<1>:$body);
  let assemblyFormat = "$sym_name `producer` $producer `target` $target `passes` $passes attr-dict-with-keyword $body";
  let extraClassDeclaration = [{
    /// The only op of its kind in the plan.
    template <typename Op> Op get() { return *getBody().getOps<Op>().begin(); }
  }];
  let hasVerifier = 1;
}

def Plan_ModelOp : Plan_RankMember<"model"> {
  let summary = "what the plan was made from (ModelInfo)";
  let description = [{
    ```mlir
    plan.model "smollm2" family "llama" {vocabulary = 49152 : i64, hidden = 576 : i64, …}
    ```
  }];
  let arguments = (ins StrAttr:$model, StrAttr:$family, Plan_U32:$vocabulary, Plan_U32:$hidden, Plan_U32:$layers,
                       Plan_U64:$parameters, Plan_U32:$context, OptionalAttr<StrAttr>:$tokenizer);
  let assemblyFormat = "$model `family` $family attr-dict";
}

def Plan_MeshOp : Plan_RankMember<"mesh"> {
  let summary = "the rank's place in the mesh (Mesh)";
  let description = "Example: `plan.mesh {tp = 2 : i64, pp = 2 : i64, rank = 3 : i64, …}`";
  let arguments = (ins Plan_U32:$tp, Plan_U32:$pp, Plan_U32:$rank, Plan_U32:$stage, Plan_U32:$tp_index,
                       Plan_U32:$first_layer, Plan_U32:$layers);
  let assemblyFormat = "attr-dict";
}

def Plan_LimitsOp : Plan_RankMember<"limits"> {
  let summary = "the largest batches and sequences (Limits)";
  let description = "Example: `plan.limits {max_batch = 8 : i64, max_tokens = 512 : i64, …}`";
  let arguments = (ins Plan_U32:$max_batch, Plan_U32:$max_tokens, Plan_U32:$max_sequence, Plan_U32:$kv_block);
  let assemblyFormat = "attr-dict";
}

def Plan_LedgerOp : Plan_RankMember<"ledger"> {
  let summary = "the rank's memory in bytes (Ledger)";
  let description = "Example: `plan.ledger {weights_loaded = 0 : i64, weights_mapped = 2234368 : i64, …}`";
  let arguments = (ins Plan_U64:$weights_loaded, Plan_U64:$weights_mapped, Plan_U64:$kv, Plan_U64:$arena, Plan_U64:$tables);
  let assemblyFormat = "attr-dict";
}

def Plan_GroupOp : Plan_RankMember<"group", [Symbol]> {
  let summary = "a communicator: its ranks in the order of their index";
  let description = "Example: `plan.group @tp [0, 1]`";
  let arguments = (ins SymbolNameAttr:$sym_name, DenseI64ArrayAttr:$ranks);
  let assemblyFormat = "$sym_name $ranks attr-dict";
}

def Plan_FileOp : Plan_RankMember<"file", [Symbol]> {
  let summary = "a file of the checkpoint (SourceFile)";
  let description = "Example: `plan.file @file0 \"../model.safetensors\" size 2234960 header 2960 hash -123`";
  let arguments = (ins SymbolNameAttr:$sym_name, StrAttr:$path, Plan_U64:$size, Plan_U64:$header_bytes,
                       I64Attr:$header_hash);
  let assemblyFormat = "$sym_name $path `size` $size `header` $header_bytes `hash` $header_hash attr-dict";
}

def Plan_TensorOp : Plan_RankMember<"tensor", [Symbol]> {
  let summary = "a tensor as it lies in a file (SourceTensor)";
  let description = "Example: `plan.tensor @\"model.norm.weight\" [128] bf16 in @file0 at 2960 bytes 256`";
  let arguments = (ins SymbolNameAttr:$sym_name, DenseI64ArrayAttr:$shape, LLM_DTypeAttr:$dtype,
                       OptionalAttr<FlatSymbolRefAttr>:$file, Plan_U64:$offset, Plan_U64:$bytes);
  let assemblyFormat = "$sym_name $shape $dtype (`in` $file^)? `at` $offset `bytes` $bytes attr-dict";
}

def Plan_WeightOp : Plan_RankMember<"weight", [Symbol]> {
  let summary = "this rank's part of a weight (Weight)";
  let description = [{
    ```mlir
    plan.weight @layers.0.q [5, 64, 576] bf16 map at 0 bytes 368640 stride 36864 copies 1 uniform 4.1e-2
      from [#llm.source<@"model.layers.0.self_attn.q_proj.weight"[9, 64, 576] [0:5] [0:64] [0:576]>]
    ```
  }];
  let arguments = (ins SymbolNameAttr:$sym_name, DenseI64ArrayAttr:$shape, LLM_DTypeAttr:$dtype,
                       Plan_PlacementAttr:$placement, Plan_U64:$offset, Plan_U64:$bytes, Plan_U64:$row_stride, Plan_U32:$copies,
                       LLM_InitAttr:$init, F32Attr:$init_scale, TypedArrayAttrBase<LLM_SourceAttr, "sources">:$sources);
  let assemblyFormat = [{
    $sym_name $shape $dtype $placement `at` $offset `bytes` $bytes `stride` $row_stride `copies` $copies $init $init_scale
    `from` $sources    attr-dict
  }];
}

def Plan_KvPoolOp : Plan_RankMember<"kv_pool"> {
  let summary = "the geometry of the paged KV caches (KvPool)";
  let description = "Example: `plan.kv_pool block 16 blocks 256 per_sequence 32`";
  let arguments = (ins Plan_U32:$block_tokens, Plan_U32:$blocks, Plan_U32:$blocks_per_sequence);
  let assemblyFormat = "`block` $block_tokens `blocks` $blocks `per_sequence` $blocks_per_sequence attr-dict";
}

def Plan_KvCacheOp : Plan_RankMember<"kv_cache", [Symbol]> {
  let summary = "the cache of one layer (KvCache)";
  let description = "Example: `plan.kv_cache @layers.0.kv layer 0 heads 3 dim 64 f32 at 0 bytes 1572864`";
  let arguments = (ins SymbolNameAttr:$sym_name, Plan_U32:$layer, Plan_U32:$heads, Plan_U32:$head_dim,
                       LLM_DTypeAttr:$dtype, Plan_U64:$offset, Plan_U64:$bytes);
  let assemblyFormat = [{
    $sym_name `layer` $layer `heads` $heads `dim` $head_dim $dtype `at` $offset `bytes` $bytes attr-dict
  }];
}

def Plan_RopeTableOp : Plan_RankMember<"rope_table", [Symbol]> {
  let summary = "the frequencies of a rotary embedding (RopeTable)";
  let description = "Example: `plan.rope_table @rope [1.0, 0.1] magnitude 1.0`";
  let arguments = (ins SymbolNameAttr:$sym_name, F64ArrayAttr:$inv_freq, F64Attr:$magnitude,
                       DefaultValuedAttr<DenseI64ArrayAttr, "::llvm::ArrayRef<int64_t>()">:$over);
  let assemblyFormat = "$sym_name $inv_freq `magnitude` $magnitude (`over` $over^)? attr-dict";
}

def Plan_ProgramOp : Plan_RankMember<"program", [IsolatedFromAbove, NoTerminator, SingleBlock]> {
  let summary = "the instructions for one kind and size of batch (Program)";
  let description = [{
    ```mlir
    plan.program decode attributes {max_tokens = 8 : i64, max_sequences = 8 : i64, …} { … }
    ```
  }];
  let arguments = (ins Plan_RegimeAttr:$regime, Plan_U32:$max_tokens, Plan_U32:$max_sequences, Plan_U32:$max_outputs,
                       I64Attr:$queues, Plan_U32:$events, I64Attr:$micro_batches, Plan_U64:$arena_bytes);
  let regions = (region SizedRegion<1>:$body);
  let assemblyFormat = "$regime attr-dict-with-keyword $body";
}

def Plan_BufferOp : Plan_ProgramMember<"buffer"> {
  let summary = "an activation in the arena (Buffer and ValueInfo)";
  let description = [{
    Without `at`, memory has not been planned yet. `of` names the buffer that a chunk is part of.

    ```mlir
    %3 = plan.buffer "layers.0.q" tokens [9, 64] split 1 : f32, 320 elements, 10240 bytes at 4096
    ```
  }];
  let arguments = (ins StrAttr:$value, Plan_RowUnitAttr:$rows, DenseI64ArrayAttr:$dims, Plan_LayoutAttr:$layout,
                       DefaultValuedAttr<I64Attr, "-1">:$dim, LLM_DTypeAttr:$dtype, Plan_U32:$row_elements,
                       Plan_U64:$bytes, OptionalAttr<I64Attr>:$offset, DefaultValuedAttr<I64Attr, "1">:$times,
                       DefaultValuedAttr<I64Attr, "1">:$shards, DefaultValuedAttr<I64Attr, "0">:$chunk,
                       DefaultValuedAttr<I64Attr, "1">:$chunks, Optional<Plan_BufferType>:$parent);
  let results = (outs Plan_BufferType:$buffer);
  let assemblyFormat = [{
    $value $rows $dims $layout ($dim^)? `:` $dtype `,` $row_elements `elements` `,` $bytes `bytes` (`at` $offset^)?
    (`of` $parent^)? attr-dict
  }];
  let extraClassDeclaration = [{
    /// The buffer whose memory it lies in: its parent, or itself.
    ::mlir::Value getMemory() { return getParent() ? getParent() : getBuffer(); }
    /// Whether both are chunks of the same rows, and not the same chunk.
    bool hasOtherRowsThan(BufferOp other) {
      return getChunks() == other.getChunks() && getChunk() != other.getChunk();
    }
  }];
}

def Plan_ScheduleOp : Plan_ProgramMember<"schedule"> {
  let summary = "multiprocessors and shared memory that the program's stages are made for (TileSchedule)";
  let description = "Example: `plan.schedule sms 132 ring 212992`";
  let arguments = (ins Plan_U32:$sms, Plan_U32:$ring_bytes);
  let assemblyFormat = "`sms` $sms `ring` $ring_bytes attr-dict";
}

def Plan_StageOp : Plan_ProgramMember<"stage"> {
  let summary = "instructions that are done as one, and each multiprocessor's share of the weights (StageTiles)";
  let description = [{
    Instructions are counted from the program's first. The stages follow the instructions, after `plan.schedule`.

    ```mlir
    plan.stage qkv from 2 count 7 waits [0] bounds [0, 11, 23, …]
    ```
  }];
  let arguments = (ins Plan_StageKindAttr:$kind, Plan_U32:$instruction, Plan_U32:$count, DenseI64ArrayAttr:$waits,
                       DenseI64ArrayAttr:$bounds);
  let assemblyFormat = "$kind `from` $instruction `count` $count `waits` $waits `bounds` $bounds attr-dict";
}

// -------------------------------------------------------------------------------------------------------- instructions

// An instruction: its id first, then operands, then queue, events and label.
class Plan_Instr<string mnemonic, dag fields, string format, bit inPlace = 0> : Plan_ProgramMember<mnemonic, [
    !if(inPlace, DeclareOpInterfaceMethods<Plan_InstructionOpInterface, ["mayRunInPlace"]>,
        DeclareOpInterfaceMethods<Plan_InstructionOpInterface>)]> {
  let arguments = !con((ins I64Attr:$id), fields,
                       (ins DefaultValuedAttr<I64Attr, "0">:$queue,
                            DefaultValuedAttr<DenseI64ArrayAttr, "::llvm::ArrayRef<int64_t>()">:$waits,
                            OptionalAttr<I64Attr>:$signal, StrAttr:$label));
  let assemblyFormat = "$id `:` " # format #
    " (`queue` $queue^)? (`waits` $waits^)? (`signals` $signal^)? $label attr-dict";
  let extraClassDefinition = !if(inPlace, "bool $cppClass::mayRunInPlace() { return true; }", "");
}

def Plan_EmbeddingOp : Plan_Instr<"embedding", (ins FlatSymbolRefAttr:$weight, Plan_U32:$first_row, Plan_BufferType:$out),
    "$weight `from` $first_row `->` $out"> {
  let summary = "rows of a table by token id";
  let description = "Example: `plan.embedding 0 : @embedding from 0 -> %0 \"embedding\"`";
}
def Plan_RmsNormOp : Plan_Instr<"rms_norm", (ins Plan_BufferType:$input, FlatSymbolRefAttr:$weight, F32Attr:$eps,
    DefaultValuedAttr<F32Attr, "0.0f">:$weight_offset, Optional<Plan_BufferType>:$squares,
    DefaultValuedAttr<Plan_U32, "0">:$column, DefaultValuedAttr<Plan_U32, "0">:$elements, Plan_BufferType:$out),
    "$input `,` $weight `eps` $eps (`offset` $weight_offset^)? "
    "(`squares` $squares^ `column` $column `of` $elements)? `->` $out", 1> {
  let summary = "root-mean-square norm of each row";
  let description = "Example: `plan.rms_norm 1 : %0, @layers.0.attention_norm eps 1.0e-5 -> %1 \"layers.0.n\"`";
}
def Plan_LayerNormOp : Plan_Instr<"layer_norm", (ins Plan_BufferType:$input, FlatSymbolRefAttr:$weight,
    OptionalAttr<FlatSymbolRefAttr>:$bias, F32Attr:$eps, Plan_BufferType:$out),
    "$input `,` $weight (`bias` $bias^)? `eps` $eps `->` $out", 1> {
  let summary = "layer norm of each row";
  let description = "Example: `plan.layer_norm 1 : %0, @layers.0.n bias @layers.0.b eps 1.0e-5 -> %1 \"layers.0.n\"`";
}
def Plan_PositionEmbeddingOp : Plan_Instr<"position_embedding", (ins Plan_BufferType:$input, FlatSymbolRefAttr:$weight,
    Plan_BufferType:$out), "$input `,` $weight `->` $out", 1> {
  let summary = "adds the row of a table at each token's position";
  let description = "Example: `plan.position_embedding 1 : %0, @positions -> %1 \"x\"`";
}
def Plan_LinearOp : Plan_Instr<"linear", (ins Plan_BufferType:$input, FlatSymbolRefAttr:$weight,
    OptionalAttr<FlatSymbolRefAttr>:$bias, Plan_BufferType:$out), "$input `,` $weight (`bias` $bias^)? `->` $out"> {
  let summary = "rows times a weight";
  let description = "Example: `plan.linear 2 : %1, @layers.0.q -> %2 \"layers.0.q\"`";
}
def Plan_RopeOp : Plan_Instr<"rope", (ins Plan_BufferType:$input, FlatSymbolRefAttr:$table, LLM_RopeStyleAttr:$style,
    Plan_U32:$heads, Plan_U32:$head_dim, Plan_BufferType:$out),
    "$input `,` $table $style `heads` $heads `dim` $head_dim `->` $out", 1> {
  let summary = "rotary position embedding of each head";
  let description = "Example: `plan.rope 3 : %2, @rope half heads 9 dim 64 -> %3 \"layers.0.q\"`";
}
def Plan_KvAppendOp : Plan_Instr<"kv_append", (ins Plan_BufferType:$k, Plan_BufferType:$v, FlatSymbolRefAttr:$cache),
    "$k `,` $v `->` $cache"> {
  let summary = "writes keys and values into a cache";
  let description = "Example: `plan.kv_append 6 : %4, %5 -> @layers.0.kv \"layers.0.kv\"`";
}
def Plan_AttentionOp : Plan_Instr<"attention", (ins Plan_BufferType:$q, FlatSymbolRefAttr:$cache, Plan_U32:$heads,
    F32Attr:$scale, DefaultValuedAttr<I64Attr, "0">:$window, DefaultValuedAttr<F32Attr, "0.0f">:$soft_cap,
    Plan_BufferType:$out),
    "$q `,` $cache `heads` $heads `scale` $scale (`window` $window^)? (`soft_cap` $soft_cap^)? `->` $out"> {
  let summary = "causal attention over the cache";
  let description = "Example: `plan.attention 7 : %3, @layers.0.kv heads 9 scale 0.125 -> %6 \"layers.0.a\"`";
}
def Plan_AddOp : Plan_Instr<"add", (ins Plan_BufferType:$a, Plan_BufferType:$b, Plan_BufferType:$out),
    "$a `,` $b `->` $out", 1> {
  let summary = "elementwise sum";
  let description = "Example: `plan.add 9 : %0, %7 -> %8 \"layers.0.x\"`";
}
def Plan_GluOp : Plan_Instr<"glu", (ins LLM_ActivationAttr:$activation, Plan_BufferType:$gate, Plan_BufferType:$up,
    Plan_BufferType:$out), "$activation $gate `,` $up `->` $out", 1> {
  let summary = "activation(gate) times up";
  let description = "Example: `plan.glu 12 : silu %9, %10 -> %11 \"layers.0.h\"`";
}
def Plan_ActivateOp : Plan_Instr<"activate", (ins LLM_ActivationAttr:$activation, Plan_BufferType:$input,
    Plan_BufferType:$out), "$activation $input `->` $out", 1> {
  let summary = "an activation function";
  let description = "Example: `plan.activate 12 : gelu_tanh %9 -> %10 \"layers.0.h\"`";
}
def Plan_SelectRowsOp : Plan_Instr<"select_rows", (ins Plan_BufferType:$input, Plan_BufferType:$out),
    "$input `->` $out"> {
  let summary = "the rows of the outputs";
  let description = "Example: `plan.select_rows 80 : %70 -> %71 \"outputs\"`";
}
def Plan_TopCandidatesOp : Plan_Instr<"top_candidates", (ins Plan_BufferType:$logits, Plan_U32:$first_id, Plan_U32:$valid,
    Plan_U32:$count, Plan_BufferType:$out), "$logits `ids` $first_id `valid` $valid `count` $count `->` $out"> {
  let summary = "what sampling needs of the rank's logits";
  let description = "Example: `plan.top_candidates 83 : %73 ids 0 valid 24576 count 256 -> %74 \"candidates\"`";
}
def Plan_SampleOp : Plan_Instr<"sample", (ins Plan_BufferType:$candidates, Plan_U32:$shards, Plan_U32:$count,
    Plan_BufferType:$out), "$candidates `shards` $shards `count` $count `->` $out"> {
  let summary = "one id per output";
  let description = "Example: `plan.sample 85 : %75 shards 2 count 256 -> %76 \"ids\"`";
}

class Plan_Collective<string mnemonic, dag fields, string format, bit inPlace = 0> : Plan_Instr<mnemonic,
    !con((ins FlatSymbolRefAttr:$group, Plan_U32:$sequence), fields), "$group `number` $sequence " # format, inPlace>;

def Plan_AllReduceOp : Plan_Collective<"all_reduce", (ins Plan_BufferType:$input, Plan_ReduceOpAttr:$op,
    Plan_BufferType:$out), "$op $input `->` $out", 1> {
  let summary = "reduction over a group";
  let description = "Example: `plan.all_reduce 8 : @tp number 0 sum %7 -> %8 queue 1 waits [0] signals 1 \"layers.0.o\"`";
}
def Plan_AllGatherOp : Plan_Collective<"all_gather", (ins Plan_BufferType:$input, Plan_BufferType:$out),
    "$input `->` $out"> {
  let summary = "the rows of all members, stacked";
  let description = "Example: `plan.all_gather 84 : @tp number 61 %74 -> %75 queue 1 \"candidates\"`";
}
def Plan_ReduceScatterOp : Plan_Collective<"reduce_scatter", (ins Plan_BufferType:$input, Plan_ReduceOpAttr:$op,
    Plan_BufferType:$out), "$op $input `->` $out"> {
  let summary = "each member's part of the rows of the reduction";
  let description = "Example: `plan.reduce_scatter 8 : @tp number 0 sum %7 -> %8 queue 1 \"layers.0.o\"`";
}
def Plan_SendOp : Plan_Collective<"send", (ins Plan_U32:$peer, Plan_BufferType:$input), "$input `to` $peer"> {
  let summary = "sends the rows of a buffer to a member";
  let description = "Example: `plan.send 40 : @pp number 0 %30 to 1 queue 1 \"layers.15.x\"`";
}
def Plan_RecvOp : Plan_Collective<"recv", (ins Plan_U32:$peer, Plan_BufferType:$out), "`from` $peer `->` $out"> {
  let summary = "receives the rows of a buffer from a member";
  let description = "Example: `plan.recv 0 : @pp number 0 from 0 -> %0 queue 1 \"layers.15.x\"`";
}
def Plan_EmitIdsOp : Plan_Instr<"emit_ids", (ins Plan_BufferType:$input), "$input"> {
  let summary = "hands the sampled ids to the host";
  let description = "Example: `plan.emit_ids 86 : %76 \"ids\"`";
}
def Plan_EmitLogitsOp : Plan_Instr<"emit_logits", (ins Plan_BufferType:$input, Plan_U32:$first_column, Plan_U32:$valid),
    "$input `columns` $first_column `valid` $valid"> {
  let summary = "hands the rank's logits to the host, if it asked";
  let description = "Example: `plan.emit_logits 82 : %73 columns 0 valid 24576 \"logits\"`";
}
def Plan_RouteOp : Plan_Instr<"route", (ins Plan_BufferType:$logits, Plan_U32:$count, UnitAttr:$normalize,
    Plan_BufferType:$out), "$logits `count` $count (`normalize` $normalize^)? `->` $out"> {
  let summary = "which experts each token goes to, and how much each counts";
  let description = "Example: `plan.route 11 : %9 count 2 normalize -> %10 \"layers.0.r\"`";
}
def Plan_ExpertLinearOp : Plan_Instr<"expert_linear", (ins Plan_BufferType:$input, Plan_BufferType:$routes,
    FlatSymbolRefAttr:$weight, Plan_BufferType:$out), "$input `,` $routes `,` $weight `->` $out"> {
  let summary = "rows times the weights of the experts that they go to";
  let description = "Example: `plan.expert_linear 12 : %8, %10, @layers.0.gate -> %11 \"layers.0.gate\"`";
}
def Plan_CombineOp : Plan_Instr<"combine", (ins Plan_BufferType:$input, Plan_BufferType:$routes, Plan_BufferType:$out),
    "$input `,` $routes `->` $out"> {
  let summary = "weighted sum of what a token's experts return";
  let description = "Example: `plan.combine 15 : %13, %10 -> %14 \"layers.0.y\"`";
}

def Plan_ScaleOp : Plan_Instr<"scale", (ins Plan_BufferType:$input, F32Attr:$factor, Plan_BufferType:$out),
    "$input `by` $factor `->` $out", 1> {
  let summary = "rows times a number";
  let description = "Example: `plan.scale 1 : %0 by 1.2e+01 -> %1 \"x\"`";
}
def Plan_SoftCapOp : Plan_Instr<"soft_cap", (ins Plan_BufferType:$input, F32Attr:$cap, Plan_BufferType:$out),
    "$input `at` $cap `->` $out", 1> {
  let summary = "rows bent to stay between -cap and cap";
  let description = "Example: `plan.soft_cap 82 : %73 at 3.0e+01 -> %74 \"logits\"`";
}
def Plan_SquareSumOp : Plan_Instr<"square_sum", (ins Plan_BufferType:$a, Optional<Plan_BufferType>:$b,
    Plan_BufferType:$out), "$a (`,` $b^)? `->` $out"> {
  let summary = "sum of the squares of each row, a column for each input";
  let description = "Example: `plan.square_sum 5 : %2, %3 -> %4 \"layers.0.q.squares\"`";
}

#endif
