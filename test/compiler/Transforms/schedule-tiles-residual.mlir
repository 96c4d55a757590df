// RUN: distc-opt %s --pass-pipeline='builtin.module(plan.rank(schedule-tiles{sms=3}))' | FileCheck %s
// RUN: distc-opt %s --pass-pipeline='builtin.module(plan.rank(schedule-tiles{sms=3},plan-memory))' | FileCheck %s --check-prefix=MEMORY
// RUN: sed 's/@norm \[64\] f32 load at 0 bytes 256/@norm [32] f32 load at 0 bytes 128/' %s | distc-opt --pass-pipeline='builtin.module(plan.rank(schedule-tiles{sms=3}))' | FileCheck %s --check-prefix=PARTS
// RUN: sed 's/add 6 : %%x2, %%pn/add 6 : %%pn, %%pn/; s/add 3 : %%x, %%s/add 3 : %%s, %%s/' %s | distc-opt --pass-pipeline='builtin.module(plan.rank(schedule-tiles{sms=3}))' | FileCheck %s --check-prefix=TWICE

// What comes between a projection and the sum with the residual: a factor, a norm. The sum takes the residual's place, where
// the stage does not begin with it.
// CHECK: plan.schedule sms 3 ring 212992
// CHECK-NEXT: plan.stage rows from 1 count 3 waits [] bounds [0, 11, 22, 32]
// CHECK-NEXT: plan.stage rows from 4 count 1 waits [0] bounds [0, 11, 21, 32]
// CHECK-NEXT: plan.stage post_norm from 5 count 2 waits [1] bounds []
// CHECK-NEXT: plan.stage rows from 7 count 1 waits [2] bounds
// CHECK-NEXT: }

// MEMORY: plan.buffer "x" {{.*}} at 0
// MEMORY: plan.buffer "x2" {{.*}} at [[X:[0-9]+]]
// MEMORY: plan.buffer "x3" {{.*}} at [[X]]{{$}}

// A norm of parts of rows; a term that is both of the sum's.
// PARTS: plan.stage rows from 4 count 1
// PARTS-NEXT: plan.stage rows from 7 count 1
// TWICE: plan.stage rows from 1 count 2
// TWICE-NEXT: plan.stage rows from 4 count 1
// TWICE-NEXT: plan.stage rows from 7 count 1

plan.rank @rank0 producer "hand" target "sm_90" passes [] {
  plan.model "m" family "f" {context = 1 : i64, hidden = 64 : i64, layers = 1 : i64, parameters = 1 : i64, vocabulary = 30 : i64}
  plan.mesh {first_layer = 0 : i64, layers = 1 : i64, pp = 1 : i64, rank = 0 : i64, stage = 0 : i64, tp = 1 : i64, tp_index = 0 : i64}
  plan.limits {kv_block = 16 : i64, max_batch = 1 : i64, max_sequence = 1 : i64, max_tokens = 1 : i64}
  plan.ledger {arena = 0 : i64, kv = 0 : i64, tables = 0 : i64, weights_loaded = 0 : i64, weights_mapped = 0 : i64}
  plan.weight @table [30, 64] bf16 load at 0 bytes 3840 stride 64 copies 1 uniform 1.0 from []
  plan.weight @norm [64] f32 load at 0 bytes 256 stride 1 copies 1 ones 1.0 from []
  plan.weight @w [64, 64] bf16 load at 0 bytes 8192 stride 64 copies 1 uniform 1.0 from []
  plan.kv_pool block 16 blocks 1 per_sequence 1
  plan.program decode attributes {arena_bytes = 0 : i64, events = 0 : i64, max_outputs = 1 : i64, max_sequences = 1 : i64, max_tokens = 1 : i64, micro_batches = 1 : i64, queues = 1 : i64} {
    %x = plan.buffer "x" tokens [64] replicated : bf16, 64 elements, 128 bytes
    %l = plan.buffer "l" tokens [64] replicated : bf16, 64 elements, 128 bytes
    %s = plan.buffer "s" tokens [64] replicated : bf16, 64 elements, 128 bytes
    %x2 = plan.buffer "x2" tokens [64] replicated : bf16, 64 elements, 128 bytes
    %p = plan.buffer "p" tokens [64] replicated : bf16, 64 elements, 128 bytes
    %pn = plan.buffer "pn" tokens [64] replicated : bf16, 64 elements, 128 bytes
    %x3 = plan.buffer "x3" tokens [64] replicated : bf16, 64 elements, 128 bytes
    %y = plan.buffer "y" tokens [64] replicated : bf16, 64 elements, 128 bytes
    plan.embedding 0 : @table from 0 -> %x "x"
    plan.linear 1 : %x, @w -> %l "l"
    plan.scale 2 : %l by 2.2e-01 -> %s "s"
    plan.add 3 : %x, %s -> %x2 "x2"
    plan.linear 4 : %x2, @w -> %p "p"
    plan.rms_norm 5 : %p, @norm eps 1.0e-5 -> %pn "pn"
    plan.add 6 : %x2, %pn -> %x3 "x3"
    plan.linear 7 : %x3, @w -> %y "y"
    plan.emit_ids 8 : %y "y"
  }
}
