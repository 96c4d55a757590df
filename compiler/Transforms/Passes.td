// The passes, in the order in which `distc compile` runs them (compiler/Pipelines/Pipelines.cpp).
#ifndef DISTC_PASSES_TD
#define DISTC_PASSES_TD

include "mlir/Pass/PassBase.td"

def PadTensorParallel : Pass<"pad-tensor-parallel", "::mlir::ModuleOp"> {
  let summary = "Pads heads, intermediate size and vocabulary so that the tensor-parallel degree divides them";
  let description = [{
    Sharding is exact or refused: nothing is ever dropped. A degree that does not divide is met by zero-filled slices that
    exist only in the params' sources. Heads are padded by group: every KV head is repeated r times, the query heads of
    a group are padded so that r divides them, and the copies are padded to a multiple of the degree. Of all r, the one with
    the fewest query heads per rank is taken, then the one with the fewest KV heads. So KV heads fewer than ranks are
    repeated, and most groups need no padding.

    A degree above the number of query heads is an error that names the largest which works. So is one that would cut the
    blocks of a quantized param, with a list of those that work. The degree is the second dimension of `shard.grid @mesh`.
  }];
}

def SplitRegimes : Pass<"split-regimes", "::mlir::ModuleOp"> {
  let summary = "Makes the decode and the prefill program out of the model's one function";
  let description = [{
    From here on the two are apart, since what is best for one hurts the other. In a decode program every row is an output,
    so `llm.select_outputs` disappears from it.
  }];
}

def PartitionTensorParallel : Pass<"partition-tensor-parallel", "::mlir::ModuleOp"> {
  let summary = "Splits params, caches and programs over the tensor-parallel ranks";
  let description = [{
    One forward walk. Each value is replicated, split along a dimension, or a partial sum; each op states its own rule
    (`TensorParallelOpInterface`). The named dimensions `heads`, `kv_heads`, `intermediate` and `vocabulary` of params are
    split, which gives column-parallel q, k, v, gate and up, row-parallel o and down, and a vocabulary-parallel embedding and
    head: the Megatron pattern, with two all-reduces a layer. Types are rewritten in place to one rank's, and a collective is
    inserted where a partial sum is used. An op that has no rule for its operands' layouts is an error that names them.

    With `sequence-parallel` the prefill program's residual stream is scattered: each rank holds its share of the rows
    (Korthikanti et al., arXiv:2205.05198). A sum is completed by a reduce-scatter, residuals and norms work on the rank's rows,
    and what needs all rows gathers them, once for all its users. As many bytes cross the wire as with all-reduces. The type
    of a scattered value names the grid axis as its encoding. A decode program has too few rows to deal out, and stays.
  }];
  let options = [
    Option<"sequenceParallel", "sequence-parallel", "bool", "false", "scatter the rows between the layers of prefill">,
  ];
  let dependentDialects = ["::mlir::shard::ShardDialect"];
}

def SplitPipeline : Pass<"split-pipeline", "::mlir::ModuleOp"> {
  let summary = "Cuts the programs into pipeline stages that send and receive";
  let description = [{
    Cuts are made at `llm.layer` only. Without `layers`, contiguous layers are dealt out so that the slowest stage is as
    fast as can be, where time is the bytes of weights that a decode step streams (the head weighs in, the embedding does
    not), and among equals so that the fullest stage is as empty as can be (both weigh in). Sampled ids return to stage 0.
  }];
  let options = [
    ListOption<"layers", "layers", "int64_t", "layers of each stage; empty: balanced">,
  ];
  let dependentDialects = ["::distc::dist::DistDialect"];
}

def AsyncCollectives : Pass<"async-collectives", "::mlir::func::FuncOp"> {
  let summary = "Turns collectives into start and wait";
  let description = [{
    Start and wait stand back to back: what comes between them is for later passes to decide.
  }];
  let dependentDialects = ["::distc::dist::DistDialect"];
}

def OverlapCollectives : Pass<"overlap-collectives", "::mlir::func::FuncOp"> {
  let summary = "Moves start and wait apart, and cuts prefill into chunks that hide each other's communication";
  let description = [{
    A wait moves to the first use of its value. Where little stands before that, in prefill with tensor parallelism, the
    program is cut into chunks of rows: each op on rows becomes one op for each chunk. The ops between two waits are done for
    all chunks in turn, so while a chunk's all-reduce is under way the next chunks are computed:

        o(0) start(0)  o(1) start(1)  |  wait(0) add, norm, gate, up, down(0) start(0)  wait(1) add, norm, …

    The keys and values of a chunk are appended before the chunks after it attend to them. Values that others need whole (what
    goes to another stage, what outputs are selected from) are made in place, chunk by chunk. No row's arithmetic changes.
  }];
  let dependentDialects = ["::distc::dist::DistDialect"];
  let options = [
    Option<"chunks", "chunks", "int64_t", "1", "chunks that prefill is cut into; 1: none">,
  ];
}

def DistToPlan : Pass<"dist-to-plan", "::mlir::ModuleOp"> {
  let summary = "Flattens each stage's programs to a plan of its first rank";
  let description = [{
    Values become buffers, ops become instructions. Communication goes to queue 1; an instruction that reads what the other
    queue has written waits for an event of it. The params stay beside the plan for `specialize-ranks`. The tokens and
    sequences of a step are dealt out over as many micro-batches as may be in flight: a program is as large as one.
  }];
  let options = [
    Option<"microBatches", "micro-batches", "int64_t", "1", "of a prefill step">,
    Option<"decodeMicroBatches", "decode-micro-batches", "int64_t", "1", "of a decode step">,
  ];
  let dependentDialects = ["::distc::planir::PlanDialect"];
}

def ScheduleTiles : Pass<"schedule-tiles", "::distc::planir::RankOp"> {
  let summary = "Groups the decode program's instructions into stages and deals out their weights over multiprocessors";
  let description = [{
    A stage is what a GPU does in one go for up to 64 tokens (of experts: 8): a norm with the projections that read it, rotary embedding
    and the write into the cache; norms and rotations of heads with that write; attention; a projection or its norm with the residual,
    a projection with its activation or soft cap; router and choice of experts; their gated products; their weighted sum. Its weights are cut into units of two or four
    rows, and every multiprocessor gets a range of them: as even as units allow, the larger shares where fewest
    bytes of the layer have gone so far. What matches no stage, or is not a multiple of the tiles' 64 columns, stays as
    single instructions. Nothing is rewritten but the order where q, k and v are projected with rotations between: a backend
    that has no stages runs the instructions.
  }];
  let options = [
    Option<"sms", "sms", "int64_t", "0", "multiprocessors of the device; 0: no schedule">,
  ];
}

def PlanMemory : Pass<"plan-memory", "::distc::planir::RankOp"> {
  let summary = "Gives every buffer its place in the arena";
  let description = [{
    Two buffers may share memory if every access of one happens before every write of the other, in the order that
    queues and events enforce, whatever else they allow; a stage is one access. Chunks of a buffer are accesses of it. The output of an elementwise instruction takes the place of
    an input that nothing reads afterwards. First fit in program order. Completes the ledger.
  }];
}

def SpecializeRanks : Pass<"specialize-ranks", "::mlir::ModuleOp"> {
  let summary = "Makes the plans of all ranks out of their stage's first";
  let description = [{
    Inside a stage the ranks differ by their weight slices, the part of the vocabulary that they hold, and their groups.
    What is not a plan is removed.
  }];
  let options = [
    Option<"firstOnly", "first-only", "bool", "false", "leave the first rank of each stage alone: enough to predict from">,
  ];
  let dependentDialects = ["::distc::planir::PlanDialect"];
}

#endif
