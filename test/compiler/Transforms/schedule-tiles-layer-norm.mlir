// RUN: distc-opt %s --pass-pipeline='builtin.module(plan.rank(schedule-tiles{sms=3}))' | FileCheck %s
// RUN: sed 's/linear 7 : %%h/linear 7 : %%u/' %s | distc-opt --pass-pipeline='builtin.module(plan.rank(schedule-tiles{sms=3}))' | FileCheck %s --check-prefix=READ
// RUN: sed 's/@norm \[64\]/@norm [16448]/; s/\[64, 64\]/[4, 16448]/; s/tokens \[64\]\(.*\), 64 elements/tokens [16448]\1, 16448 elements/' %s | distc-opt --pass-pipeline='builtin.module(plan.rank(schedule-tiles{sms=3}))' | FileCheck %s --check-prefix=WIDE

// A layer norm, with a sum in front of it or without, begins a stage of rows and no other. An activation, a soft cap or a
// factor ends the stage of one product, with a norm or without. A product has any number of rows, and so has its last unit.
// CHECK: plan.schedule sms 3 ring 212992
// CHECK-NEXT: plan.stage rows from 1 count 3 waits [] bounds [0, 22, 43, 64]
// CHECK-NEXT: plan.stage rows from 4 count 3 waits [0] bounds [0, 10, 21, 32]
// CHECK-NEXT: plan.stage rows from 7 count 1 waits [1] bounds
// CHECK-NEXT: plan.stage rows from 8 count 3 waits [0] bounds
// CHECK-NEXT: plan.stage glu from 12 count 3 waits [3] bounds
// CHECK-NEXT: plan.stage rows from 15 count 3 waits [4] bounds [0, 6, 11, 16]
// CHECK-NEXT: plan.stage rows from 18 count 2 waits [4] bounds
// CHECK-NEXT: }

// Somebody else reads what is activated.
// READ: plan.stage rows from 4 count 2
// A norm and its biases that are too wide to stand beside the ring.
// WIDE: plan.stage rows from 2 count 2
// WIDE-NEXT: plan.stage rows from 5 count 2

plan.rank @rank0 producer "hand" target "sm_90" passes [] {
  plan.model "m" family "f" {context = 1 : i64, hidden = 64 : i64, layers = 1 : i64, parameters = 1 : i64, vocabulary = 30 : i64}
  plan.mesh {first_layer = 0 : i64, layers = 1 : i64, pp = 1 : i64, rank = 0 : i64, stage = 0 : i64, tp = 1 : i64, tp_index = 0 : i64}
  plan.limits {kv_block = 16 : i64, max_batch = 1 : i64, max_sequence = 1 : i64, max_tokens = 1 : i64}
  plan.ledger {arena = 0 : i64, kv = 0 : i64, tables = 0 : i64, weights_loaded = 0 : i64, weights_mapped = 0 : i64}
  plan.weight @table [30, 64] bf16 load at 0 bytes 3840 stride 64 copies 1 uniform 1.0 from []
  plan.weight @norm [64] f32 load at 0 bytes 256 stride 1 copies 1 ones 1.0 from []
  plan.weight @w [64, 64] bf16 load at 0 bytes 8192 stride 64 copies 1 uniform 1.0 from []
  plan.weight @odd [31, 64] bf16 load at 0 bytes 3968 stride 64 copies 1 uniform 1.0 from []
  plan.kv_pool block 16 blocks 1 per_sequence 1
  plan.program decode attributes {arena_bytes = 0 : i64, events = 0 : i64, max_outputs = 1 : i64, max_sequences = 1 : i64, max_tokens = 1 : i64, micro_batches = 1 : i64, queues = 1 : i64} {
    %x = plan.buffer "x" tokens [64] replicated : bf16, 64 elements, 128 bytes
    %n = plan.buffer "n" tokens [64] replicated : bf16, 64 elements, 128 bytes
    %q = plan.buffer "q" tokens [64] replicated : bf16, 64 elements, 128 bytes
    %k = plan.buffer "k" tokens [64] replicated : bf16, 64 elements, 128 bytes
    %m = plan.buffer "m" tokens [64] replicated : bf16, 64 elements, 128 bytes
    %u = plan.buffer "u" tokens [64] replicated : bf16, 64 elements, 128 bytes
    %h = plan.buffer "h" tokens [64] replicated : bf16, 64 elements, 128 bytes
    %d = plan.buffer "d" tokens [64] replicated : bf16, 64 elements, 128 bytes
    %s = plan.buffer "s" tokens [64] replicated : bf16, 64 elements, 128 bytes
    %sn = plan.buffer "sn" tokens [64] replicated : bf16, 64 elements, 128 bytes
    %e = plan.buffer "e" tokens [64] replicated : bf16, 64 elements, 128 bytes
    %en = plan.buffer "en" tokens [64] replicated : bf16, 64 elements, 128 bytes
    %g = plan.buffer "g" tokens [64] replicated : bf16, 64 elements, 128 bytes
    %v = plan.buffer "v" tokens [64] replicated : bf16, 64 elements, 128 bytes
    %y = plan.buffer "y" tokens [64] replicated : bf16, 64 elements, 128 bytes
    %yn = plan.buffer "yn" tokens [64] replicated : bf16, 64 elements, 128 bytes
    %z = plan.buffer "z" tokens [31] replicated : bf16, 31 elements, 62 bytes
    %c = plan.buffer "c" tokens [31] replicated : bf16, 31 elements, 62 bytes
    %t = plan.buffer "t" tokens [31] replicated : bf16, 31 elements, 62 bytes
    %f = plan.buffer "f" tokens [31] replicated : bf16, 31 elements, 62 bytes
    plan.embedding 0 : @table from 0 -> %x "x"
    plan.layer_norm 1 : %x, @norm bias @norm eps 1.0e-5 -> %n "n"
    plan.linear 2 : %n, @w -> %q "q"
    plan.linear 3 : %n, @w -> %k "k"
    plan.layer_norm 4 : %q, @norm eps 1.0e-5 -> %m "m"
    plan.linear 5 : %m, @w -> %u "u"
    plan.activate 6 : gelu_tanh %u -> %h "h"
    plan.linear 7 : %h, @w -> %d "d"
    plan.add 8 : %q, %k -> %s "s"
    plan.layer_norm 9 : %s, @norm bias @norm eps 1.0e-5 -> %sn "sn"
    plan.linear 10 : %sn, @w -> %e "e"
    plan.layer_norm 11 : %e, @norm bias @norm eps 1.0e-5 -> %en "en"
    plan.linear 12 : %en, @w -> %g "g"
    plan.linear 13 : %en, @w -> %v "v"
    plan.glu 14 : silu %g, %v -> %y "y"
    plan.rms_norm 15 : %y, @norm eps 1.0e-5 -> %yn "yn"
    plan.linear 16 : %yn, @odd -> %z "z"
    plan.soft_cap 17 : %z at 3.0e+01 -> %c "c"
    plan.linear 18 : %y, @odd -> %t "t"
    plan.scale 19 : %t by 5.0e-01 -> %f "f"
    plan.emit_ids 20 : %c "c"
    plan.emit_ids 21 : %f "f"
  }
}
