// RUN: distc-opt %s --pass-pipeline='builtin.module(plan.rank(schedule-tiles{sms=3}))' | FileCheck %s
// RUN: distc-opt %s --pass-pipeline='builtin.module(plan.rank(schedule-tiles{sms=3},plan-memory))' | FileCheck %s --check-prefix=MEMORY
// RUN: distc-opt %s --pass-pipeline='builtin.module(plan.rank(schedule-tiles))' | FileCheck %s --check-prefix=NONE
// RUN: sed 's/kv_pool block 16/kv_pool block 24/' %s | distc-opt --pass-pipeline='builtin.module(plan.rank(schedule-tiles{sms=3}))' | FileCheck %s --check-prefix=BLOCK

// RUN: sed 's/@norm \[64\] f32 load at 0 bytes 256/@norm [32] f32 load at 0 bytes 128/' %s | distc-opt --pass-pipeline='builtin.module(plan.rank(schedule-tiles{sms=3}))' | FileCheck %s --check-prefix=PARTS

// A norm of parts of a row begins no stage.
// PARTS: plan.stage qkv from 2 count 6
// PARTS: plan.stage glu from 12 count 3

// Attention copies 16 positions of one block of the cache at once.
// BLOCK-NOT: plan.stage attention

// No number of multiprocessors, no schedule.
// NONE-NOT: plan.s{{chedule|tage}}

plan.rank @rank0 producer "hand" target "sm_90" passes [] {
  plan.model "m" family "f" {context = 1 : i64, hidden = 64 : i64, layers = 1 : i64, parameters = 1 : i64, vocabulary = 30 : i64}
  plan.mesh {first_layer = 0 : i64, layers = 1 : i64, pp = 1 : i64, rank = 0 : i64, stage = 0 : i64, tp = 1 : i64, tp_index = 0 : i64}
  plan.limits {kv_block = 16 : i64, max_batch = 1 : i64, max_sequence = 1 : i64, max_tokens = 1 : i64}
  plan.ledger {arena = 0 : i64, kv = 0 : i64, tables = 0 : i64, weights_loaded = 0 : i64, weights_mapped = 0 : i64}
  plan.weight @table [30, 64] bf16 load at 0 bytes 3840 stride 64 copies 1 uniform 1.0 from []
  plan.weight @norm [64] f32 load at 0 bytes 256 stride 1 copies 1 ones 1.0 from []
  plan.weight @q [2, 32, 64] bf16 load at 0 bytes 8192 stride 2048 copies 1 uniform 1.0 from []
  plan.weight @k [1, 32, 64] bf16 load at 0 bytes 4096 stride 2048 copies 1 uniform 1.0 from []
  plan.weight @o [64, 2, 32] bf16 load at 0 bytes 8192 stride 64 copies 1 uniform 1.0 from []
  plan.weight @gate [128, 64] bf16 load at 0 bytes 16384 stride 64 copies 1 uniform 1.0 from []
  plan.weight @down [64, 128] bf16 load at 0 bytes 16384 stride 128 copies 1 uniform 1.0 from []
  plan.weight @experts [4, 64, 64] bf16 load at 0 bytes 32768 stride 64 copies 1 uniform 1.0 from []
  plan.weight @odd [31, 64] bf16 load at 0 bytes 3968 stride 64 copies 1 uniform 1.0 from []
  plan.kv_pool block 16 blocks 1 per_sequence 1
  plan.kv_cache @kv layer 0 heads 1 dim 32 bf16 at 0 bytes 2048
  plan.rope_table @rope [1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.09, 0.08, 0.07, 0.06, 0.05, 0.04] magnitude 1.0

  // A decoder layer: 32 units of 4 rows for q, k and v, 32 of 2 rows for o, 64 pairs of 2 rows for gate and up, 32 for
  // down; whoever has streamed least gets the larger share. The last product has an odd number of rows: of its 16 units the
  // last is one row.
  // CHECK: plan.emit_ids
  // CHECK: plan.schedule sms 3 ring 212992
  // CHECK-NEXT: plan.stage qkv from 1 count 7 waits [] bounds [0, 11, 22, 32]
  // CHECK-NEXT: plan.stage attention from 8 count 1 waits [0] bounds []
  // CHECK-NEXT: plan.stage rows from 9 count 2 waits [1] bounds [0, 11, 22, 32]
  // CHECK-NEXT: plan.stage glu from 11 count 4 waits [2] bounds [0, 21, 42, 64]
  // CHECK-NEXT: plan.stage rows from 15 count 1 waits [3] bounds [0, 11, 22, 32]
  // CHECK-NEXT: plan.stage glu from 17 count 5 waits [4] bounds
  // CHECK-NEXT: plan.stage rows from 22 count 2 waits [5] bounds [0, 6, 11, 16]
  // CHECK-NEXT: }
  // CHECK-NOT: plan.stage

  // The output of a stage takes nothing that its input has: "o" is written while "a" is read. The sum that begins a stage
  // has a place of its own, the one that ends a stage takes the residual's.
  // MEMORY: plan.buffer "x" {{.*}} at 0
  // MEMORY: plan.buffer "n" {{.*}} at 256
  // MEMORY: plan.buffer "x2" {{.*}} at 0
  // MEMORY: plan.buffer "x3" {{.*}} at [[X3:[0-9]+]]
  // MEMORY-NOT: plan.buffer "x4" {{.*}} at [[X3]]{{$}}
  plan.program decode attributes {arena_bytes = 0 : i64, events = 1 : i64, max_outputs = 1 : i64, max_sequences = 1 : i64, max_tokens = 1 : i64, micro_batches = 1 : i64, queues = 1 : i64} {
    %x = plan.buffer "x" tokens [64] replicated : bf16, 64 elements, 128 bytes
    %n = plan.buffer "n" tokens [64] replicated : bf16, 64 elements, 128 bytes
    %ql = plan.buffer "ql" tokens [64] replicated : bf16, 64 elements, 128 bytes
    %q = plan.buffer "q" tokens [64] replicated : bf16, 64 elements, 128 bytes
    %kl = plan.buffer "kl" tokens [32] replicated : bf16, 32 elements, 64 bytes
    %k = plan.buffer "k" tokens [32] replicated : bf16, 32 elements, 64 bytes
    %v = plan.buffer "v" tokens [32] replicated : bf16, 32 elements, 64 bytes
    %a = plan.buffer "a" tokens [64] replicated : bf16, 64 elements, 128 bytes
    %ol = plan.buffer "ol" tokens [64] replicated : bf16, 64 elements, 128 bytes
    %x2 = plan.buffer "x2" tokens [64] replicated : bf16, 64 elements, 128 bytes
    %m = plan.buffer "m" tokens [64] replicated : bf16, 64 elements, 128 bytes
    %g = plan.buffer "g" tokens [128] replicated : bf16, 128 elements, 256 bytes
    %u = plan.buffer "u" tokens [128] replicated : bf16, 128 elements, 256 bytes
    %h = plan.buffer "h" tokens [128] replicated : bf16, 128 elements, 256 bytes
    %d = plan.buffer "d" tokens [64] replicated : bf16, 64 elements, 128 bytes
    %dr = plan.buffer "dr" tokens [64] replicated : bf16, 64 elements, 128 bytes
    %x3 = plan.buffer "x3" tokens [64] replicated : bf16, 64 elements, 128 bytes
    %m2 = plan.buffer "m2" tokens [64] replicated : bf16, 64 elements, 128 bytes
    %g2 = plan.buffer "g2" tokens [128] replicated : bf16, 128 elements, 256 bytes
    %u2 = plan.buffer "u2" tokens [128] replicated : bf16, 128 elements, 256 bytes
    %x4 = plan.buffer "x4" tokens [128] replicated : bf16, 128 elements, 256 bytes
    %y = plan.buffer "y" tokens [64] replicated : bf16, 64 elements, 128 bytes
    %z = plan.buffer "z" tokens [31] replicated : bf16, 31 elements, 62 bytes
    plan.embedding 0 : @table from 0 -> %x "x"
    plan.rms_norm 1 : %x, @norm eps 1.0e-5 -> %n "n"
    plan.linear 2 : %n, @q -> %ql "ql"
    plan.rope 3 : %ql, @rope half heads 2 dim 32 -> %q "q"
    plan.linear 4 : %n, @k -> %kl "kl"
    plan.rope 5 : %kl, @rope half heads 1 dim 32 -> %k "k"
    plan.linear 6 : %n, @k -> %v "v"
    plan.kv_append 7 : %k, %v -> @kv "kv"
    plan.attention 8 : %q, @kv heads 2 scale 1.0 -> %a "a"
    plan.linear 9 : %a, @o -> %ol "ol"
    plan.add 10 : %x, %ol -> %x2 "x2"
    plan.rms_norm 11 : %x2, @norm eps 1.0e-5 -> %m "m"
    plan.linear 12 : %m, @gate -> %g "g"
    plan.linear 13 : %m, @gate -> %u "u"
    plan.glu 14 : silu %g, %u -> %h "h"
    plan.linear 15 : %h, @down -> %d signals 0 "d"
    plan.all_reduce 16 : @tp number 0 sum %d -> %dr queue 1 waits [0] "dr"
    plan.add 17 : %x2, %dr -> %x3 "x3"
    plan.rms_norm 18 : %x3, @norm eps 1.0e-5 -> %m2 "m2"
    plan.linear 19 : %m2, @gate -> %g2 "g2"
    plan.linear 20 : %m2, @gate -> %u2 "u2"
    plan.glu 21 : silu %g2, %u2 -> %x4 "x4"
    plan.rms_norm 22 : %x3, @norm eps 1.0e-5 -> %y "y"
    plan.linear 23 : %y, @odd -> %z "z"
    plan.emit_ids 24 : %z "z"
  }

  // Experts: the products and what they end in; not where they read others' routes.
  // CHECK: plan.program decode
  // CHECK: plan.stage rows from 1 count 1 waits [] bounds [0, 6, 11, 16]
  // CHECK-NEXT: plan.stage expert_glu from 4 count 3 waits [0] bounds []
  // CHECK-NEXT: plan.stage expert_sum from 7 count 3 waits [1] bounds [0, 10, 21, 32]
  // CHECK-NEXT: plan.stage expert_sum from 12 count 2 waits [2] bounds
  // CHECK-NOT: plan.stage
  plan.program decode attributes {arena_bytes = 0 : i64, events = 0 : i64, max_outputs = 2 : i64, max_sequences = 2 : i64, max_tokens = 2 : i64, micro_batches = 1 : i64, queues = 1 : i64} {
    %x = plan.buffer "x" tokens [64] replicated : bf16, 64 elements, 256 bytes
    %l = plan.buffer "l" tokens [31] replicated : f32, 31 elements, 248 bytes
    %r = plan.buffer "r" tokens [4] replicated : f32, 4 elements, 32 bytes
    %r2 = plan.buffer "r2" tokens [4] replicated : f32, 4 elements, 32 bytes
    %g = plan.buffer "g" tokens [128] replicated : bf16, 128 elements, 512 bytes
    %u = plan.buffer "u" tokens [128] replicated : bf16, 128 elements, 512 bytes
    %h = plan.buffer "h" tokens [128] replicated : bf16, 128 elements, 512 bytes
    %d = plan.buffer "d" tokens [128] replicated : bf16, 128 elements, 512 bytes
    %c = plan.buffer "c" tokens [64] replicated : bf16, 64 elements, 256 bytes
    %y = plan.buffer "y" tokens [64] replicated : bf16, 64 elements, 256 bytes
    %g2 = plan.buffer "g2" tokens [128] replicated : bf16, 128 elements, 512 bytes
    %u2 = plan.buffer "u2" tokens [128] replicated : bf16, 128 elements, 512 bytes
    %d2 = plan.buffer "d2" tokens [128] replicated : bf16, 128 elements, 512 bytes
    %c2 = plan.buffer "c2" tokens [64] replicated : bf16, 64 elements, 256 bytes
    plan.embedding 27 : @table from 0 -> %x "x"
    plan.linear 40 : %x, @odd -> %l "l"
    plan.route 28 : %l count 2 normalize -> %r "r"
    plan.route 41 : %l count 2 -> %r2 "r2"
    plan.expert_linear 29 : %x, %r, @experts -> %g "g"
    plan.expert_linear 30 : %x, %r, @experts -> %u "u"
    plan.glu 31 : silu %g, %u -> %h "h"
    plan.expert_linear 32 : %h, %r, @experts -> %d "d"
    plan.combine 33 : %d, %r -> %c "c"
    plan.add 34 : %x, %c -> %y "y"
    plan.expert_linear 35 : %y, %r, @experts -> %g2 "g2"
    plan.expert_linear 36 : %y, %r2, @experts -> %u2 "u2"
    plan.expert_linear 37 : %g2, %r, @experts -> %d2 "d2"
    plan.combine 38 : %d2, %r -> %c2 "c2"
    plan.emit_ids 39 : %u2 "z"
  }

  // Prefill has no stages.
  // CHECK: plan.program prefill
  // CHECK-NOT: plan.stage
  plan.program prefill attributes {arena_bytes = 0 : i64, events = 0 : i64, max_outputs = 1 : i64, max_sequences = 1 : i64, max_tokens = 1 : i64, micro_batches = 1 : i64, queues = 1 : i64} {
    %x = plan.buffer "x" tokens [64] replicated : bf16, 64 elements, 128 bytes
    %o = plan.buffer "o" tokens [64] replicated : bf16, 64 elements, 128 bytes
    plan.embedding 25 : @table from 0 -> %x "x"
    plan.linear 26 : %x, @o -> %o "o"
  }
}
