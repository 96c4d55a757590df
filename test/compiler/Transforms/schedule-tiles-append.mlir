// RUN: distc-opt %s --pass-pipeline='builtin.module(plan.rank(schedule-tiles{sms=3}))' | FileCheck %s
// RUN: sed 's/kv_append 9 : %k,/kv_append 9 : %kn,/' %s | distc-opt --pass-pipeline='builtin.module(plan.rank(schedule-tiles{sms=3}))' | FileCheck %s --check-prefix=SKIPS
// RUN: sed 's/rope 8 : %kn, @rope half/rope 8 : %kn, @rope interleaved/' %s | distc-opt --pass-pipeline='builtin.module(plan.rank(schedule-tiles{sms=3}))' | FileCheck %s --check-prefix=STYLE
// RUN: sed 's/@of_head \[32\] f32 load at 0 bytes 128/@of_head [16] f32 load at 0 bytes 64/' %s | distc-opt --pass-pipeline='builtin.module(plan.rank(schedule-tiles{sms=3}))' | FileCheck %s --check-prefix=PART
// RUN: sed 's/bf16 at 0 bytes 2048/f32 at 0 bytes 4096/' %s | distc-opt --pass-pipeline='builtin.module(plan.rank(schedule-tiles{sms=3}))' | FileCheck %s --check-prefix=CACHE

// A rotation of k that nobody appends; other pairs of k than of q; a norm of parts of heads: the write alone is a stage. A
// cache of another type.
// SKIPS: plan.stage rows from 1 count 4
// SKIPS-NEXT: plan.stage append from 9 count 1 waits [0]
// SKIPS-NEXT: plan.stage attention
// STYLE: plan.stage rows from 1 count 4
// STYLE-NEXT: plan.stage append from 9 count 1 waits [0]
// STYLE-NEXT: plan.stage attention
// PART: plan.stage rows from 1 count 4
// PART-NEXT: plan.stage append from 9 count 1 waits [0]
// PART-NEXT: plan.stage attention
// CACHE-NOT: plan.stage append

plan.rank @rank0 producer "hand" target "sm_90" passes [] {
  plan.model "m" family "f" {context = 1 : i64, hidden = 64 : i64, layers = 3 : i64, parameters = 1 : i64, vocabulary = 30 : i64}
  plan.mesh {first_layer = 0 : i64, layers = 3 : i64, pp = 1 : i64, rank = 0 : i64, stage = 0 : i64, tp = 1 : i64, tp_index = 0 : i64}
  plan.limits {kv_block = 16 : i64, max_batch = 1 : i64, max_sequence = 1 : i64, max_tokens = 1 : i64}
  plan.ledger {arena = 0 : i64, kv = 0 : i64, tables = 0 : i64, weights_loaded = 0 : i64, weights_mapped = 0 : i64}
  plan.weight @table [30, 64] bf16 load at 0 bytes 3840 stride 64 copies 1 uniform 1.0 from []
  plan.weight @norm [64] f32 load at 0 bytes 256 stride 1 copies 1 ones 1.0 from []
  plan.weight @of_head [32] f32 load at 0 bytes 128 stride 1 copies 1 ones 1.0 from []
  plan.weight @q [2, 32, 64] bf16 load at 0 bytes 8192 stride 2048 copies 1 uniform 1.0 from []
  plan.weight @k [1, 32, 64] bf16 load at 0 bytes 4096 stride 2048 copies 1 uniform 1.0 from []
  plan.kv_pool block 16 blocks 1 per_sequence 1
  plan.kv_cache @kv layer 0 heads 1 dim 32 bf16 at 0 bytes 2048
  plan.rope_table @rope [1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.09, 0.08, 0.07, 0.06, 0.05, 0.04] magnitude 1.0
  plan.rope_table @part [1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3] magnitude 1.0

  // Three layers. Norms of heads; a part of each head rotated, whose products come together; keys that are not rotated.
  // CHECK: plan.linear 12
  // CHECK-NEXT: plan.linear 14
  // CHECK-NEXT: plan.linear 16
  // CHECK-NEXT: plan.rope 13
  // CHECK-NEXT: plan.rope 15
  // CHECK-NEXT: plan.kv_append 17
  // CHECK: plan.schedule sms 3 ring 212992
  // CHECK-NEXT: plan.stage rows from 1 count 4 waits [] bounds
  // CHECK-NEXT: plan.stage append from 5 count 5 waits [0] bounds []
  // CHECK-NEXT: plan.stage attention from 10 count 1 waits [1] bounds []
  // CHECK-NEXT: plan.stage rows from 11 count 4 waits [2] bounds
  // CHECK-NEXT: plan.stage append from 15 count 3 waits [3] bounds []
  // CHECK-NEXT: plan.stage attention from 18 count 1 waits [4] bounds []
  // CHECK-NEXT: plan.stage rows from 19 count 4 waits [5] bounds
  // CHECK-NEXT: plan.stage append from 23 count 1 waits [6] bounds []
  // CHECK-NEXT: plan.stage attention from 24 count 1 waits [7] bounds []
  // CHECK-NEXT: }
  plan.program decode attributes {arena_bytes = 0 : i64, events = 1 : i64, max_outputs = 1 : i64, max_sequences = 1 : i64, max_tokens = 1 : i64, micro_batches = 1 : i64, queues = 1 : i64} {
    %x = plan.buffer "x" tokens [64] replicated : bf16, 64 elements, 128 bytes
    %n = plan.buffer "n" tokens [64] replicated : bf16, 64 elements, 128 bytes
    %ql = plan.buffer "ql" tokens [64] replicated : bf16, 64 elements, 128 bytes
    %kl = plan.buffer "kl" tokens [32] replicated : bf16, 32 elements, 64 bytes
    %v = plan.buffer "v" tokens [32] replicated : bf16, 32 elements, 64 bytes
    %qn = plan.buffer "qn" tokens [64] replicated : bf16, 64 elements, 128 bytes
    %q = plan.buffer "q" tokens [64] replicated : bf16, 64 elements, 128 bytes
    %kn = plan.buffer "kn" tokens [32] replicated : bf16, 32 elements, 64 bytes
    %k = plan.buffer "k" tokens [32] replicated : bf16, 32 elements, 64 bytes
    %a = plan.buffer "a" tokens [64] replicated : bf16, 64 elements, 128 bytes
    %n2 = plan.buffer "n2" tokens [64] replicated : bf16, 64 elements, 128 bytes
    %ql2 = plan.buffer "ql2" tokens [64] replicated : bf16, 64 elements, 128 bytes
    %q2 = plan.buffer "q2" tokens [64] replicated : bf16, 64 elements, 128 bytes
    %kl2 = plan.buffer "kl2" tokens [32] replicated : bf16, 32 elements, 64 bytes
    %k2 = plan.buffer "k2" tokens [32] replicated : bf16, 32 elements, 64 bytes
    %v2 = plan.buffer "v2" tokens [32] replicated : bf16, 32 elements, 64 bytes
    %a2 = plan.buffer "a2" tokens [64] replicated : bf16, 64 elements, 128 bytes
    %n3 = plan.buffer "n3" tokens [64] replicated : bf16, 64 elements, 128 bytes
    %q3 = plan.buffer "q3" tokens [64] replicated : bf16, 64 elements, 128 bytes
    %k3 = plan.buffer "k3" tokens [32] replicated : bf16, 32 elements, 64 bytes
    %v3 = plan.buffer "v3" tokens [32] replicated : bf16, 32 elements, 64 bytes
    %a3 = plan.buffer "a3" tokens [64] replicated : bf16, 64 elements, 128 bytes
    plan.embedding 0 : @table from 0 -> %x "x"
    plan.rms_norm 1 : %x, @norm eps 1.0e-5 -> %n "n"
    plan.linear 2 : %n, @q -> %ql "ql"
    plan.linear 3 : %n, @k -> %kl "kl"
    plan.linear 4 : %n, @k -> %v "v"
    plan.rms_norm 5 : %ql, @of_head eps 1.0e-5 -> %qn "qn"
    plan.rope 6 : %qn, @rope half heads 2 dim 32 -> %q "q"
    plan.rms_norm 7 : %kl, @of_head eps 1.0e-5 -> %kn "kn"
    plan.rope 8 : %kn, @rope half heads 1 dim 32 -> %k "k"
    plan.kv_append 9 : %k, %v -> @kv "kv"
    plan.attention 10 : %q, @kv heads 2 scale 1.0 -> %a "a"
    plan.rms_norm 11 : %a, @norm eps 1.0e-5 -> %n2 "n2"
    plan.linear 12 : %n2, @q -> %ql2 "ql2"
    plan.rope 13 : %ql2, @part half heads 2 dim 32 -> %q2 "q2"
    plan.linear 14 : %n2, @k -> %kl2 "kl2"
    plan.rope 15 : %kl2, @part half heads 1 dim 32 -> %k2 "k2"
    plan.linear 16 : %n2, @k -> %v2 "v2"
    plan.kv_append 17 : %k2, %v2 -> @kv "kv2"
    plan.attention 18 : %q2, @kv heads 2 scale 1.0 -> %a2 "a2"
    plan.rms_norm 19 : %a2, @norm eps 1.0e-5 -> %n3 "n3"
    plan.linear 20 : %n3, @q -> %q3 "q3"
    plan.linear 21 : %n3, @k -> %k3 "k3"
    plan.linear 22 : %n3, @k -> %v3 "v3"
    plan.kv_append 23 : %k3, %v3 -> @kv "kv3"
    plan.attention 24 : %q3, @kv heads 2 scale 1.0 -> %a3 "a3"
    plan.emit_ids 25 : %a3 "a3"
  }
}
