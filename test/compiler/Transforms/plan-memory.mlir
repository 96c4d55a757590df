// RUN: distc-opt %s -split-input-file -verify-diagnostics --pass-pipeline='builtin.module(plan.rank(plan-memory))' | FileCheck %s

// The largest program decides what the rank needs; micro-batches hold one arena each.
// CHECK: plan.ledger {arena = 2048 : i64
plan.rank @rank0 producer "hand" target "cpu" passes [] {
  plan.model "m" family "f" {context = 1 : i64, hidden = 1 : i64, layers = 1 : i64, parameters = 1 : i64, vocabulary = 1 : i64}
  plan.mesh {first_layer = 0 : i64, layers = 1 : i64, pp = 1 : i64, rank = 0 : i64, stage = 0 : i64, tp = 1 : i64, tp_index = 0 : i64}
  plan.limits {kv_block = 1 : i64, max_batch = 1 : i64, max_sequence = 1 : i64, max_tokens = 1 : i64}
  plan.ledger {arena = 0 : i64, kv = 0 : i64, tables = 0 : i64, weights_loaded = 0 : i64, weights_mapped = 0 : i64}
  plan.kv_pool block 1 blocks 1 per_sequence 1

  // Offsets are multiples of 256. A place is free as soon as its last reader is done, and not before.
  // CHECK: plan.program decode attributes {arena_bytes = 1024 : i64
  // CHECK: plan.buffer "a" {{.*}} 100 bytes at 0
  // CHECK: plan.buffer "b" {{.*}} 300 bytes at 256
  // CHECK: plan.buffer "c" {{.*}} 100 bytes at 0
  // CHECK: plan.buffer "d" {{.*}} 600 bytes at 256
  plan.program decode attributes {arena_bytes = 0 : i64, events = 0 : i64, max_outputs = 1 : i64, max_sequences = 1 : i64, max_tokens = 1 : i64, micro_batches = 2 : i64, queues = 1 : i64} {
    %a = plan.buffer "a" tokens [25] replicated : f32, 25 elements, 100 bytes
    %b = plan.buffer "b" tokens [75] replicated : f32, 75 elements, 300 bytes
    %c = plan.buffer "c" tokens [25] replicated : f32, 25 elements, 100 bytes
    %d = plan.buffer "d" tokens [150] replicated : f32, 150 elements, 600 bytes
    plan.embedding 0 : @w from 0 -> %a "a"
    plan.linear 1 : %a, @w -> %b "b"
    plan.linear 2 : %b, @w -> %c "c"
    plan.linear 3 : %c, @w -> %d "d"
  }

  // The residual stream: `n` may not take the place of `x`, which is read again; `s` takes it. `l` is written
  // while `n` is read.
  // CHECK: plan.program decode attributes {arena_bytes = 768 : i64
  // CHECK: plan.buffer "x" {{.*}} at 0
  // CHECK: plan.buffer "n" {{.*}} at 256
  // CHECK: plan.buffer "l" {{.*}} at 512
  // CHECK: plan.buffer "s" {{.*}} at 0
  // CHECK: plan.buffer "m" {{.*}} at 0
  // CHECK: plan.buffer "o" {{.*}} at 256
  plan.program decode attributes {arena_bytes = 0 : i64, events = 0 : i64, max_outputs = 1 : i64, max_sequences = 1 : i64, max_tokens = 1 : i64, micro_batches = 1 : i64, queues = 1 : i64} {
    %x = plan.buffer "x" tokens [64] replicated : f32, 64 elements, 256 bytes
    %n = plan.buffer "n" tokens [64] replicated : f32, 64 elements, 256 bytes
    %l = plan.buffer "l" tokens [64] replicated : f32, 64 elements, 256 bytes
    %s = plan.buffer "s" tokens [64] replicated : f32, 64 elements, 256 bytes
    %m = plan.buffer "m" tokens [64] replicated : f32, 64 elements, 256 bytes
    %o = plan.buffer "o" tokens [64] replicated : f32, 64 elements, 256 bytes
    plan.embedding 0 : @w from 0 -> %x "x"
    plan.rms_norm 1 : %x, @w eps 1.0e-5 -> %n "n"
    plan.linear 2 : %n, @w -> %l "l"
    plan.add 3 : %x, %l -> %s "s"
    plan.rms_norm 4 : %s, @w eps 1.0e-5 -> %m "m"
    plan.linear 5 : %m, @w -> %o "o"
  }

  // A linear never writes where it reads, an elementwise instruction of another size neither.
  // CHECK: plan.program decode attributes {arena_bytes = 768 : i64
  // CHECK: plan.buffer "x" {{.*}} at 0
  // CHECK: plan.buffer "y" {{.*}} at 256
  // CHECK: plan.buffer "z" {{.*}} at 0
  // CHECK: plan.buffer "h" {{.*}} at 512
  plan.program decode attributes {arena_bytes = 0 : i64, events = 0 : i64, max_outputs = 1 : i64, max_sequences = 1 : i64, max_tokens = 1 : i64, micro_batches = 1 : i64, queues = 1 : i64} {
    %x = plan.buffer "x" tokens [64] replicated : f32, 64 elements, 256 bytes
    %y = plan.buffer "y" tokens [64] replicated : f32, 64 elements, 256 bytes
    %z = plan.buffer "z" tokens [64] replicated : f32, 64 elements, 256 bytes
    %h = plan.buffer "h" tokens [32] replicated : f32, 32 elements, 128 bytes
    plan.embedding 0 : @w from 0 -> %x "x"
    plan.linear 1 : %x, @w -> %y "y"
    plan.linear 2 : %y, @w -> %z "z"
    plan.add 3 : %z, %y -> %h "h"
  }

  // A send is on its own queue: until something has waited for it, what it reads stays, and nothing is written in place.
  // CHECK: plan.program decode attributes {arena_bytes = 768 : i64
  // CHECK: plan.buffer "x" {{.*}} at 0
  // CHECK: plan.buffer "y" {{.*}} at 256
  // CHECK: plan.buffer "z" {{.*}} at 512
  plan.program decode attributes {arena_bytes = 0 : i64, events = 1 : i64, max_outputs = 1 : i64, max_sequences = 1 : i64, max_tokens = 1 : i64, micro_batches = 1 : i64, queues = 2 : i64} {
    %x = plan.buffer "x" tokens [64] replicated : f32, 64 elements, 256 bytes
    %y = plan.buffer "y" tokens [64] replicated : f32, 64 elements, 256 bytes
    %z = plan.buffer "z" tokens [64] replicated : f32, 64 elements, 256 bytes
    plan.embedding 0 : @w from 0 -> %x signals 0 "x"
    plan.send 1 : @pp number 0 %x to 1 queue 1 waits [0] "x"
    plan.rms_norm 2 : %x, @w eps 1.0e-5 -> %y "y"
    plan.linear 3 : %y, @w -> %z "z"
  }

  // With an event it is over; a reduction takes the place of its input, also from the other queue.
  // CHECK: plan.program prefill attributes {arena_bytes = 512 : i64
  // CHECK: plan.buffer "x" {{.*}} at 0
  // CHECK: plan.buffer "r" {{.*}} at 0
  // CHECK: plan.buffer "y" {{.*}} at 256
  // CHECK: plan.buffer "z" {{.*}} at 0
  plan.program prefill attributes {arena_bytes = 0 : i64, events = 2 : i64, max_outputs = 1 : i64, max_sequences = 1 : i64, max_tokens = 1 : i64, micro_batches = 1 : i64, queues = 2 : i64} {
    %x = plan.buffer "x" tokens [64] replicated : f32, 64 elements, 256 bytes
    %r = plan.buffer "r" tokens [64] replicated : f32, 64 elements, 256 bytes
    %y = plan.buffer "y" tokens [64] replicated : f32, 64 elements, 256 bytes
    %z = plan.buffer "z" tokens [64] replicated : f32, 64 elements, 256 bytes
    plan.embedding 0 : @w from 0 -> %x signals 0 "x"
    plan.all_reduce 1 : @tp number 0 sum %x -> %r queue 1 waits [0] signals 1 "x"
    plan.linear 2 : %r, @w -> %y waits [1] "y"
    plan.linear 3 : %y, @w -> %z "z"
  }

  // The first hole that is large enough: `d` fits where `a` was, `e` does not and goes behind `b`.
  // CHECK: plan.program prefill attributes {arena_bytes = 1792 : i64
  // CHECK: plan.buffer "a" {{.*}} at 0
  // CHECK: plan.buffer "b" {{.*}} at 512
  // CHECK: plan.buffer "e" {{.*}} at 768
  // CHECK: plan.buffer "d" {{.*}} at 0
  plan.program prefill attributes {arena_bytes = 0 : i64, events = 0 : i64, max_outputs = 1 : i64, max_sequences = 1 : i64, max_tokens = 1 : i64, micro_batches = 1 : i64, queues = 1 : i64} {
    %a = plan.buffer "a" tokens [128] replicated : f32, 128 elements, 512 bytes
    %b = plan.buffer "b" tokens [64] replicated : f32, 64 elements, 256 bytes
    %e = plan.buffer "e" tokens [256] replicated : f32, 256 elements, 1024 bytes
    %d = plan.buffer "d" tokens [64] replicated : f32, 64 elements, 256 bytes
    plan.embedding 0 : @w from 0 -> %a "a"
    plan.linear 1 : %a, @w -> %b "b"
    plan.linear 2 : %b, @w -> %e "e"
    plan.linear 3 : %b, @w -> %d "d"
    plan.kv_append 4 : %e, %d -> @kv "end"
  }
}

// -----

plan.rank @rank0 producer "hand" target "cpu" passes [] {
  plan.model "m" family "f" {context = 1 : i64, hidden = 1 : i64, layers = 1 : i64, parameters = 1 : i64, vocabulary = 1 : i64}
  plan.mesh {first_layer = 0 : i64, layers = 1 : i64, pp = 1 : i64, rank = 0 : i64, stage = 0 : i64, tp = 1 : i64, tp_index = 0 : i64}
  plan.limits {kv_block = 1 : i64, max_batch = 1 : i64, max_sequence = 1 : i64, max_tokens = 1 : i64}
  plan.ledger {arena = 0 : i64, kv = 0 : i64, tables = 0 : i64, weights_loaded = 0 : i64, weights_mapped = 0 : i64}
  plan.kv_pool block 1 blocks 1 per_sequence 1
  plan.program decode attributes {arena_bytes = 0 : i64, events = 1 : i64, max_outputs = 1 : i64, max_sequences = 1 : i64, max_tokens = 1 : i64, micro_batches = 1 : i64, queues = 1 : i64} {
    %x = plan.buffer "x" tokens [64] replicated : f32, 64 elements, 256 bytes
    // expected-error @+1 {{reads a buffer that nothing before it writes}}
    plan.emit_ids 0 : %x "x"
    plan.embedding 1 : @w from 0 -> %x "x"
  }
}

// -----

plan.rank @rank0 producer "hand" target "cpu" passes [] {
  plan.model "m" family "f" {context = 1 : i64, hidden = 1 : i64, layers = 1 : i64, parameters = 1 : i64, vocabulary = 1 : i64}
  plan.mesh {first_layer = 0 : i64, layers = 1 : i64, pp = 1 : i64, rank = 0 : i64, stage = 0 : i64, tp = 1 : i64, tp_index = 0 : i64}
  plan.limits {kv_block = 1 : i64, max_batch = 1 : i64, max_sequence = 1 : i64, max_tokens = 1 : i64}
  plan.ledger {arena = 0 : i64, kv = 0 : i64, tables = 0 : i64, weights_loaded = 0 : i64, weights_mapped = 0 : i64}
  plan.kv_pool block 1 blocks 1 per_sequence 1
  plan.program decode attributes {arena_bytes = 0 : i64, events = 1 : i64, max_outputs = 1 : i64, max_sequences = 1 : i64, max_tokens = 1 : i64, micro_batches = 1 : i64, queues = 1 : i64} {
    %x = plan.buffer "x" tokens [64] replicated : f32, 64 elements, 256 bytes
    // expected-error @+1 {{waits for event 0, which nothing before it signals}}
    plan.embedding 0 : @w from 0 -> %x waits [0] "x"
  }
}

// -----

plan.rank @rank0 producer "hand" target "cpu" passes [] {
  plan.model "m" family "f" {context = 1 : i64, hidden = 1 : i64, layers = 1 : i64, parameters = 1 : i64, vocabulary = 1 : i64}
  plan.mesh {first_layer = 0 : i64, layers = 1 : i64, pp = 1 : i64, rank = 0 : i64, stage = 0 : i64, tp = 1 : i64, tp_index = 0 : i64}
  plan.limits {kv_block = 1 : i64, max_batch = 1 : i64, max_sequence = 1 : i64, max_tokens = 1 : i64}
  plan.ledger {arena = 0 : i64, kv = 0 : i64, tables = 0 : i64, weights_loaded = 0 : i64, weights_mapped = 0 : i64}
  plan.kv_pool block 1 blocks 1 per_sequence 1
  plan.program decode attributes {arena_bytes = 0 : i64, events = 1 : i64, max_outputs = 1 : i64, max_sequences = 1 : i64, max_tokens = 1 : i64, micro_batches = 1 : i64, queues = 1 : i64} {
    %x = plan.buffer "x" tokens [64] replicated : f32, 64 elements, 256 bytes
    plan.embedding 0 : @w from 0 -> %x "x"
    // expected-error @+1 {{writes a buffer that has been written}}
    plan.embedding 1 : @w from 0 -> %x "x"
  }
}
