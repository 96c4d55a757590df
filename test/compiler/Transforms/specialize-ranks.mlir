// RUN: distc-opt %s -split-input-file -verify-diagnostics -specialize-ranks | FileCheck %s
// RUN: distc-opt %s -split-input-file -verify-diagnostics -specialize-ranks=first-only=true | FileCheck %s --check-prefix=FIRST
// FIRST: plan.rank @rank0
// FIRST-NOT: plan.rank @rank{{[13]}}
// FIRST: plan.rank @rank2
// FIRST-NOT: plan.rank @rank{{[13]}}

// Two stages of two ranks. What is not a plan is gone.
// CHECK: module {
// CHECK-NEXT: plan.rank @rank0
// CHECK-NOT: llm.param
module attributes {llm.model = {}, llm.limits = {}, llm.target = "cpu"} {
  shard.grid @mesh(shape = 2x2)
  llm.tensor @tt [7, 4] f32 at 256 bytes 112
  llm.tensor @tn [4] f32 at 512 bytes 16
  llm.tensor @tk [6, 4] bf16 at 1024 bytes 48
  llm.tensor @to [4, 6] f32 at 2048 bytes 96
  llm.param @table : tensor<4x4xf32> dims ["vocabulary", "hidden"] from [#llm.source<@tt[7, 4] [0:7, zero:1] [0:4]>] sharded [[1], []]
  llm.param @norm : tensor<4xf32> dims ["hidden"] from [#llm.source<@tn[4] [0:4]>]
  llm.param @bias : tensor<4xf32> dims ["hidden"] from [#llm.source<@tn[4] [0:4]>] first_only
  llm.param @k : tensor<2x2x4xbf16> dims ["kv_heads", "head_dim", "hidden"] from [#llm.source<@tk[3, 2, 4] [0:1, 0:1, 2:1, zero:1] [0:2] [0:4]>] sharded [[1], [], []]
  llm.param @o : tensor<4x3xf32> dims ["hidden", "intermediate"] from [#llm.source<@to[4, 6] [0:4] [0:6]>] sharded [[], [1]]
  func.func @left_over() {
    return
  }

  plan.rank @rank0 producer "hand" target "cpu" passes [] {
    plan.model "m" family "f" {context = 1 : i64, hidden = 4 : i64, layers = 1 : i64, parameters = 1 : i64, vocabulary = 7 : i64}
    plan.mesh {first_layer = 0 : i64, layers = 1 : i64, pp = 2 : i64, rank = 0 : i64, stage = 0 : i64, tp = 2 : i64, tp_index = 0 : i64}
    plan.limits {kv_block = 1 : i64, max_batch = 1 : i64, max_sequence = 1 : i64, max_tokens = 1 : i64}
    plan.ledger {arena = 1 : i64, kv = 2 : i64, tables = 3 : i64, weights_loaded = 4 : i64, weights_mapped = 5 : i64}
    plan.group @tp [0, 1]
    plan.group @pp [0, 2]
    plan.tensor @tt [7, 4] f32 at 256 bytes 112
    plan.weight @table [4, 4] f32 map at 0 bytes 64 stride 4 copies 1 uniform 1.0 from [#llm.source<@tt[7, 4] [0:4] [0:4]>]
    plan.weight @bias [4] f32 map at 0 bytes 16 stride 1 copies 1 uniform 1.0 from [#llm.source<@tn[4] [0:4]>]
    plan.weight @norm [4] f32 map at 0 bytes 16 stride 1 copies 2 uniform 1.0 from [#llm.source<@tn[4] [0:4]>]
    plan.weight @k [2, 2, 4] bf16 load at 0 bytes 32 stride 8 copies 1 uniform 1.0 from [#llm.source<@tk[3, 2, 4] [0:1, 0:1] [0:2] [0:4]>]
    plan.weight @o [4, 3] f32 map at 0 bytes 48 stride 6 copies 1 uniform 1.0 from [#llm.source<@to[4, 6] [0:4] [0:3]>]
    plan.kv_pool block 1 blocks 1 per_sequence 1
    plan.program decode attributes {arena_bytes = 0 : i64, events = 0 : i64, max_outputs = 1 : i64, max_sequences = 1 : i64, max_tokens = 1 : i64, micro_batches = 1 : i64, queues = 1 : i64} {
      %x = plan.buffer "x" tokens [4] partial : f32, 4 elements, 16 bytes at 0
      plan.embedding 0 : @table from 0 -> %x "x"
      plan.send 1 : @pp number 0 %x to 1 queue 1 "x"
    }
  }

  // The first rank is as it was.
  // CHECK: plan.mesh {{.*}} rank = 0 : i64, stage = 0 : i64, tp = 2 : i64, tp_index = 0
  // CHECK: plan.weight @table {{.*}} [0:4] [0:4]>]
  // CHECK: plan.embedding 0 : @table from 0

  // CHECK: plan.rank @rank1
  // CHECK: plan.mesh {first_layer = 0 : i64, layers = 1 : i64, pp = 2 : i64, rank = 1 : i64, stage = 0 : i64, tp = 2 : i64, tp_index = 1 : i64}
  // Its weights are 16 bytes for the zero bias, 64 for the rest of the table and 32 for its KV heads that must be loaded.
  // CHECK: plan.ledger {arena = 1 : i64, kv = 2 : i64, tables = 3 : i64, weights_loaded = 768 : i64, weights_mapped = 64 : i64}
  // CHECK-NEXT: plan.group @tp [0, 1]
  // CHECK-NEXT: plan.group @pp [1, 3]
  // CHECK-DAG: plan.tensor @tt [7, 4] f32 at 256 bytes 112
  // CHECK-DAG: plan.tensor @tk [6, 4] bf16 at 1024 bytes 48
  // CHECK-DAG: plan.weight @table [4, 4] f32 load at 0 bytes 64 stride 4 copies 1 uniform 1.000000e+00 from [#llm.source<@tt[7, 4] [4:3, zero:1] [0:4]>]
  // CHECK-DAG: plan.weight @bias [4] f32 load at 256 bytes 16 {{.*}} from [#llm.source<@tn[4] [zero:4]>]
  // CHECK-DAG: plan.weight @norm [4] f32 map at 0 bytes 16 stride 1 copies 2 {{.*}} from [#llm.source<@tn[4] [0:4]>]
  // CHECK-DAG: plan.weight @k [2, 2, 4] bf16 load at 512 bytes 32 stride 8 copies 1 {{.*}} from [#llm.source<@tk[3, 2, 4] [2:1, zero:1] [0:2] [0:4]>]
  // CHECK-DAG: plan.weight @o [4, 3] f32 map at 0 bytes 48 stride 6 copies 1 {{.*}} from [#llm.source<@to[4, 6] [0:4] [3:3]>]
  // CHECK: plan.program decode
  // CHECK: plan.embedding 0 : @table from 4
  // CHECK-NEXT: plan.send 1 : @pp number 0 %{{.*}} to 1
  // CHECK-NEXT: }

  plan.rank @rank2 producer "hand" target "cpu" passes [] {
    plan.model "m" family "f" {context = 1 : i64, hidden = 4 : i64, layers = 1 : i64, parameters = 1 : i64, vocabulary = 7 : i64}
    plan.mesh {first_layer = 1 : i64, layers = 1 : i64, pp = 2 : i64, rank = 2 : i64, stage = 1 : i64, tp = 2 : i64, tp_index = 0 : i64}
    plan.limits {kv_block = 1 : i64, max_batch = 1 : i64, max_sequence = 1 : i64, max_tokens = 1 : i64}
    plan.ledger {arena = 1 : i64, kv = 2 : i64, tables = 3 : i64, weights_loaded = 4 : i64, weights_mapped = 5 : i64}
    plan.group @tp [2, 3]
    plan.group @pp [0, 2]
    plan.weight @norm [4] f32 map at 0 bytes 16 stride 1 copies 2 uniform 1.0 from [#llm.source<@tn[4] [0:4]>]
    plan.kv_pool block 1 blocks 1 per_sequence 1
    plan.program decode attributes {arena_bytes = 0 : i64, events = 0 : i64, max_outputs = 1 : i64, max_sequences = 1 : i64, max_tokens = 1 : i64, micro_batches = 1 : i64, queues = 1 : i64} {
      %l = plan.buffer "l" tokens [8] split 1 : f32, 4 elements, 16 bytes at 0
      %c = plan.buffer "c" tokens [4, 2] split 0 : f32, 8 elements, 32 bytes at 256
      %w = plan.buffer "w" tokens [6] replicated : f32, 6 elements, 24 bytes at 512
      plan.top_candidates 7 : %l ids 0 valid 4 count 2 -> %c "c"
      plan.emit_logits 8 : %l columns 0 valid 4 "l"
      plan.top_candidates 9 : %w ids 0 valid 6 count 2 -> %c "c"
      plan.emit_logits 10 : %w columns 0 valid 6 "w"
    }
  }

  // CHECK: plan.rank @rank2
  // CHECK: plan.top_candidates 7 : %{{.*}} ids 0 valid 4
  // CHECK: plan.rank @rank3
  // CHECK: plan.mesh {first_layer = 1 : i64, layers = 1 : i64, pp = 2 : i64, rank = 3 : i64, stage = 1 : i64, tp = 2 : i64, tp_index = 1 : i64}
  // CHECK: plan.group @tp [2, 3]
  // CHECK-NEXT: plan.group @pp [1, 3]
  // A weight of another stage is not here.
  // CHECK-NOT: @table
  // The last column is padding. Logits that are not split are whole on each rank.
  // CHECK: plan.top_candidates 7 : %{{.*}} ids 4 valid 3 count 2
  // CHECK-NEXT: plan.emit_logits 8 : %{{.*}} columns 4 valid 3
  // CHECK-NEXT: plan.top_candidates 9 : %{{.*}} ids 0 valid 6 count 2
  // CHECK-NEXT: plan.emit_logits 10 : %{{.*}} columns 0 valid 6
  // CHECK-NOT: plan.rank
  // CHECK-NOT: @left_over
}

// -----

// expected-error @+1 {{expected 'shard.grid @mesh(shape = PPxTP)' in the module}}
module {
}

// -----

shard.grid @mesh(shape = 1x2)
plan.rank @rank0 producer "hand" target "cpu" passes [] {
  plan.model "m" family "f" {context = 1 : i64, hidden = 4 : i64, layers = 1 : i64, parameters = 1 : i64, vocabulary = 7 : i64}
  plan.mesh {first_layer = 0 : i64, layers = 1 : i64, pp = 1 : i64, rank = 0 : i64, stage = 0 : i64, tp = 2 : i64, tp_index = 0 : i64}
  plan.limits {kv_block = 1 : i64, max_batch = 1 : i64, max_sequence = 1 : i64, max_tokens = 1 : i64}
  plan.ledger {arena = 1 : i64, kv = 2 : i64, tables = 3 : i64, weights_loaded = 4 : i64, weights_mapped = 5 : i64}
  // expected-error @+1 {{has no 'llm.param' of this name beside the plan, as dist-to-plan leaves it}}
  plan.weight @norm [4] f32 map at 0 bytes 16 stride 1 copies 2 uniform 1.0 from [#llm.source<@tn[4] [0:4]>]
  plan.kv_pool block 1 blocks 1 per_sequence 1
}
