// RUN: distc-opt %s | distc-opt | FileCheck %s
// RUN: distc-opt %s --mlir-print-op-generic | distc-opt | FileCheck %s
// Nothing in a plan is dead: the ops stay as they are.
// RUN: distc-opt %s --canonicalize | FileCheck %s

// CHECK: plan.rank @rank3 producer "hand" target "cpu" passes ["a", "b"] {
plan.rank @rank3 producer "hand" target "cpu" passes ["a", "b"] {
  // CHECK-NEXT: plan.model "tiny" family "llama" {context = 64 : i64, hidden = 8 : i64, layers = 2 : i64, parameters = 99 : i64, tokenizer = "tokenizer.dtok", vocabulary = 7 : i64}
  plan.model "tiny" family "llama" {context = 64 : i64, hidden = 8 : i64, layers = 2 : i64, parameters = 99 : i64, tokenizer = "tokenizer.dtok", vocabulary = 7 : i64}
  // CHECK-NEXT: plan.mesh {first_layer = 1 : i64, layers = 1 : i64, pp = 2 : i64, rank = 3 : i64, stage = 1 : i64, tp = 2 : i64, tp_index = 1 : i64}
  plan.mesh {first_layer = 1 : i64, layers = 1 : i64, pp = 2 : i64, rank = 3 : i64, stage = 1 : i64, tp = 2 : i64, tp_index = 1 : i64}
  // CHECK-NEXT: plan.limits {kv_block = 16 : i64, max_batch = 4 : i64, max_sequence = 64 : i64, max_tokens = 32 : i64}
  plan.limits {kv_block = 16 : i64, max_batch = 4 : i64, max_sequence = 64 : i64, max_tokens = 32 : i64}
  // CHECK-NEXT: plan.ledger {arena = 5 : i64, kv = 3 : i64, tables = 4 : i64, weights_loaded = 1 : i64, weights_mapped = 2 : i64}
  plan.ledger {arena = 5 : i64, kv = 3 : i64, tables = 4 : i64, weights_loaded = 1 : i64, weights_mapped = 2 : i64}
  // CHECK-NEXT: plan.group @tp [2, 3]
  plan.group @tp [2, 3]
  // CHECK-NEXT: plan.file @file0 "../model.safetensors" size 4096 header 256 hash -123
  plan.file @file0 "../model.safetensors" size 4096 header 256 hash -123
  // CHECK-NEXT: plan.tensor @model.norm.weight [8] bf16 in @file0 at 256 bytes 16
  plan.tensor @model.norm.weight [8] bf16 in @file0 at 256 bytes 16
  // CHECK-NEXT: plan.tensor @shape [7, 8] q8_0 at 0 bytes 60
  plan.tensor @shape [7, 8] q8_0 at 0 bytes 60
  // CHECK-NEXT: plan.weight @norm [8] bf16 map at 0 bytes 16 stride 1 copies 2 ones 1.000000e+00
  // CHECK-SAME: from [#llm.source<@model.norm.weight[8] [0:8]>] {a = 1 : i64}
  plan.weight @norm [8] bf16 map at 0 bytes 16 stride 1 copies 2 ones 1.0 from [#llm.source<@model.norm.weight[8] [0:8]>] {a = 1 : i64}
  // CHECK-NEXT: plan.weight @embedding [4, 8] f32 load at 256 bytes 128 stride 8 copies 1 uniform 2.500000e-01
  // CHECK-SAME: from [#llm.source<@shape[7, 8] [4:3, zero:1] [0:8]>]
  plan.weight @embedding [4, 8] f32 load at 256 bytes 128 stride 8 copies 1 uniform 0.25 from [#llm.source<@shape[7, 8] [4:3, zero:1] [0:8]>]
  // CHECK-NEXT: plan.kv_pool block 16 blocks 16 per_sequence 4
  plan.kv_pool block 16 blocks 16 per_sequence 4
  // CHECK-NEXT: plan.kv_cache @layers.1.kv layer 1 heads 1 dim 4 f32 at 64 bytes 8192
  plan.kv_cache @layers.1.kv layer 1 heads 1 dim 4 f32 at 64 bytes 8192
  // CHECK-NEXT: plan.rope_table @rope [1.000000e+00, 1.000000e-01] magnitude 1.250000e+00
  plan.rope_table @rope [1.0, 0.1] magnitude 1.25
  // CHECK-NEXT: plan.rope_table @rope1 [1.000000e+00, 5.000000e-01] magnitude 1.000000e+00 over [32]
  plan.rope_table @rope1 [1.0, 0.5] magnitude 1.0 over [32]
  // CHECK-NEXT: plan.program decode attributes {arena_bytes = 1024 : i64, events = 2 : i64, max_outputs = 4 : i64, max_sequences = 3 : i64, max_tokens = 5 : i64, micro_batches = 2 : i64, queues = 2 : i64} {
  plan.program decode attributes {arena_bytes = 1024 : i64, events = 2 : i64, max_outputs = 4 : i64, max_sequences = 3 : i64, max_tokens = 5 : i64, micro_batches = 2 : i64, queues = 2 : i64} {
    // CHECK-NEXT: %[[X:.*]] = plan.buffer "x" tokens [2, 4] split 1 : f32, 4 elements, 64 bytes at 0
    %x = plan.buffer "x" tokens [2, 4] split 1 : f32, 4 elements, 64 bytes at 0
    // CHECK-NEXT: %[[Y:.*]] = plan.buffer "y" outputs [8] partial : f32, 8 elements, 128 bytes at 256 {chunk = 1 : i64, chunks = 2 : i64, shards = 2 : i64, times = 3 : i64}
    %y = plan.buffer "y" outputs [8] partial : f32, 8 elements, 128 bytes at 256 {chunk = 1 : i64, chunks = 2 : i64, shards = 2 : i64, times = 3 : i64}
    // Not planned yet; and a part of another.
    // CHECK-NEXT: %[[Z:.*]] = plan.buffer "z" one [] replicated : i32, 1 elements, 4 bytes{{$}}
    %z = plan.buffer "z" one [] replicated : i32, 1 elements, 4 bytes
    // CHECK-NEXT: %[[P:.*]] = plan.buffer "p" tokens [2] replicated : f32, 2 elements, 8 bytes of %[[Y]]
    %p = plan.buffer "p" tokens [2] replicated : f32, 2 elements, 8 bytes of %y
    // CHECK-NEXT: plan.embedding 0 : @embedding from 4 -> %[[X]] signals 0 "embed"
    plan.embedding 0 : @embedding from 4 -> %x signals 0 "embed"
    // CHECK-NEXT: plan.all_reduce 1 : @tp number 0 sum %[[X]] -> %[[Y]] queue 1 waits [0] signals 1 "sum"
    plan.all_reduce 1 : @tp number 0 sum %x -> %y queue 1 waits [0] signals 1 "sum"
    // CHECK-NEXT: plan.rms_norm 2 : %[[Y]], @norm eps 9.99999974E-6 -> %[[X]] waits [0, 1] "n"
    plan.rms_norm 2 : %y, @norm eps 1.0e-5 -> %x waits [0, 1] "n"
    // CHECK-NEXT: plan.linear 3 : %[[X]], @embedding -> %[[Y]] "l"
    plan.linear 3 : %x, @embedding -> %y "l"
    // CHECK-NEXT: plan.linear 4 : %[[X]], @embedding bias @norm -> %[[Y]] "b"
    plan.linear 4 : %x, @embedding bias @norm -> %y "b"
    // CHECK-NEXT: plan.rope 5 : %[[Y]], @rope half heads 2 dim 4 -> %[[X]] "r"
    plan.rope 5 : %y, @rope half heads 2 dim 4 -> %x "r"
    // CHECK-NEXT: plan.kv_append 6 : %[[X]], %[[Y]] -> @layers.1.kv "kv"
    plan.kv_append 6 : %x, %y -> @layers.1.kv "kv"
    // CHECK-NEXT: plan.attention 7 : %[[X]], @layers.1.kv heads 2 scale 5.000000e-01 -> %[[Y]] "a"
    plan.attention 7 : %x, @layers.1.kv heads 2 scale 0.5 -> %y "a"
    // CHECK-NEXT: plan.attention 8 : %[[X]], @layers.1.kv heads 2 scale 5.000000e-01 window 16 soft_cap 3.000000e+01 -> %[[Y]] "w"
    plan.attention 8 : %x, @layers.1.kv heads 2 scale 0.5 window 16 soft_cap 30.0 -> %y "w"
    // CHECK-NEXT: plan.add 9 : %[[X]], %[[Y]] -> %[[X]] "s"
    plan.add 9 : %x, %y -> %x "s"
    // CHECK-NEXT: plan.glu 10 : relu %[[X]], %[[Y]] -> %[[Y]] "g"
    plan.glu 10 : relu %x, %y -> %y "g"
    // CHECK-NEXT: plan.select_rows 11 : %[[Y]] -> %[[X]] "o"
    plan.select_rows 11 : %y -> %x "o"
    // CHECK-NEXT: plan.emit_logits 12 : %[[X]] columns 4 valid 3 "logits"
    plan.emit_logits 12 : %x columns 4 valid 3 "logits"
    // CHECK-NEXT: plan.top_candidates 13 : %[[X]] ids 4 valid 3 count 256 -> %[[Y]] "c"
    plan.top_candidates 13 : %x ids 4 valid 3 count 256 -> %y "c"
    // CHECK-NEXT: plan.all_gather 14 : @tp number 1 %[[Y]] -> %[[X]] queue 1 "ag"
    plan.all_gather 14 : @tp number 1 %y -> %x queue 1 "ag"
    // CHECK-NEXT: plan.sample 15 : %[[X]] shards 2 count 256 -> %[[Z]] "ids"
    plan.sample 15 : %x shards 2 count 256 -> %z "ids"
    // CHECK-NEXT: plan.emit_ids 16 : %[[Z]] "ids"
    plan.emit_ids 16 : %z "ids"
    // CHECK-NEXT: plan.reduce_scatter 17 : @tp number 2 max %[[X]] -> %[[P]] queue 1 "rs"
    plan.reduce_scatter 17 : @tp number 2 max %x -> %p queue 1 "rs"
    // CHECK-NEXT: plan.send 18 : @tp number 3 %[[P]] to 1 queue 1 "to"
    plan.send 18 : @tp number 3 %p to 1 queue 1 "to"
    // CHECK-NEXT: plan.recv 19 : @tp number 0 from 1 -> %[[Z]] queue 1 "from"
    plan.recv 19 : @tp number 0 from 1 -> %z queue 1 "from"
    // CHECK-NEXT: plan.scale 20 : %[[X]] by 2.500000e-01 -> %[[Y]] "scaled"
    plan.scale 20 : %x by 0.25 -> %y "scaled"
    // CHECK-NEXT: plan.soft_cap 21 : %[[Y]] at 3.000000e+01 -> %[[X]] "capped"
    plan.soft_cap 21 : %y at 30.0 -> %x "capped"
    // CHECK-NEXT: plan.square_sum 22 : %[[X]] -> %[[Z]] "squares"
    plan.square_sum 22 : %x -> %z "squares"
    // CHECK-NEXT: plan.square_sum 23 : %[[X]], %[[Y]] -> %[[Z]] "squares"
    plan.square_sum 23 : %x, %y -> %z "squares"
    // CHECK-NEXT: plan.rms_norm 24 : %[[X]], @norm eps 9.99999974E-6 offset 1.000000e+00 squares %[[Z]] column 1 of 64 -> %[[Y]] "part"
    plan.rms_norm 24 : %x, @norm eps 1.0e-5 offset 1.0 squares %z column 1 of 64 -> %y "part"
    // CHECK-NEXT: plan.layer_norm 25 : %[[X]], @norm eps 9.99999974E-6 -> %[[X]] "ln"
    plan.layer_norm 25 : %x, @norm eps 1.0e-5 -> %x "ln"
    // CHECK-NEXT: plan.layer_norm 26 : %[[X]], @norm bias @norm eps 9.99999974E-6 -> %[[X]] "lb"
    plan.layer_norm 26 : %x, @norm bias @norm eps 1.0e-5 -> %x "lb"
    // CHECK-NEXT: plan.position_embedding 27 : %[[X]], @embedding -> %[[X]] "p"
    plan.position_embedding 27 : %x, @embedding -> %x "p"
    // CHECK-NEXT: plan.activate 28 : gelu_tanh %[[X]] -> %[[Y]] "h"
    plan.activate 28 : gelu_tanh %x -> %y "h"
    // CHECK-NEXT: plan.route 29 : %[[X]] count 2 normalize -> %[[Y]] "r"
    plan.route 29 : %x count 2 normalize -> %y "r"
    // CHECK-NEXT: plan.route 30 : %[[X]] count 1 -> %[[Y]] "r"
    plan.route 30 : %x count 1 -> %y "r"
    // CHECK-NEXT: plan.expert_linear 31 : %[[X]], %[[Y]], @embedding -> %[[P]] "e"
    plan.expert_linear 31 : %x, %y, @embedding -> %p "e"
    // CHECK-NEXT: plan.combine 32 : %[[P]], %[[Y]] -> %[[X]] "c"
    plan.combine 32 : %p, %y -> %x "c"
  }
  // CHECK: plan.program prefill
  plan.program prefill attributes {arena_bytes = 0 : i64, events = 0 : i64, max_outputs = 1 : i64, max_sequences = 1 : i64, max_tokens = 1 : i64, micro_batches = 1 : i64, queues = 1 : i64} {
  }
}
