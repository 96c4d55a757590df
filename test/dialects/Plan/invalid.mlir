// RUN: distc-opt %s -split-input-file -verify-diagnostics

// Each of the five that a plan holds once is missing in turn, and one is there twice.

// -----

// expected-error @+1 {{expected one 'plan.model', got 0}}
plan.rank @rank0 producer "p" target "cpu" passes [] {
  plan.mesh {first_layer = 0 : i64, layers = 1 : i64, pp = 1 : i64, rank = 0 : i64, stage = 0 : i64, tp = 1 : i64, tp_index = 0 : i64}
  plan.limits {kv_block = 1 : i64, max_batch = 1 : i64, max_sequence = 1 : i64, max_tokens = 1 : i64}
  plan.ledger {arena = 0 : i64, kv = 0 : i64, tables = 0 : i64, weights_loaded = 0 : i64, weights_mapped = 0 : i64}
  plan.kv_pool block 1 blocks 1 per_sequence 1
}

// -----

// expected-error @+1 {{expected one 'plan.mesh', got 0}}
plan.rank @rank0 producer "p" target "cpu" passes [] {
  plan.model "m" family "f" {context = 1 : i64, hidden = 1 : i64, layers = 1 : i64, parameters = 1 : i64, vocabulary = 1 : i64}
  plan.limits {kv_block = 1 : i64, max_batch = 1 : i64, max_sequence = 1 : i64, max_tokens = 1 : i64}
  plan.ledger {arena = 0 : i64, kv = 0 : i64, tables = 0 : i64, weights_loaded = 0 : i64, weights_mapped = 0 : i64}
  plan.kv_pool block 1 blocks 1 per_sequence 1
}

// -----

// expected-error @+1 {{expected one 'plan.limits', got 0}}
plan.rank @rank0 producer "p" target "cpu" passes [] {
  plan.model "m" family "f" {context = 1 : i64, hidden = 1 : i64, layers = 1 : i64, parameters = 1 : i64, vocabulary = 1 : i64}
  plan.mesh {first_layer = 0 : i64, layers = 1 : i64, pp = 1 : i64, rank = 0 : i64, stage = 0 : i64, tp = 1 : i64, tp_index = 0 : i64}
  plan.ledger {arena = 0 : i64, kv = 0 : i64, tables = 0 : i64, weights_loaded = 0 : i64, weights_mapped = 0 : i64}
  plan.kv_pool block 1 blocks 1 per_sequence 1
}

// -----

// expected-error @+1 {{expected one 'plan.ledger', got 0}}
plan.rank @rank0 producer "p" target "cpu" passes [] {
  plan.model "m" family "f" {context = 1 : i64, hidden = 1 : i64, layers = 1 : i64, parameters = 1 : i64, vocabulary = 1 : i64}
  plan.mesh {first_layer = 0 : i64, layers = 1 : i64, pp = 1 : i64, rank = 0 : i64, stage = 0 : i64, tp = 1 : i64, tp_index = 0 : i64}
  plan.limits {kv_block = 1 : i64, max_batch = 1 : i64, max_sequence = 1 : i64, max_tokens = 1 : i64}
  plan.kv_pool block 1 blocks 1 per_sequence 1
}

// -----

// expected-error @+1 {{expected one 'plan.kv_pool', got 0}}
plan.rank @rank0 producer "p" target "cpu" passes [] {
  plan.model "m" family "f" {context = 1 : i64, hidden = 1 : i64, layers = 1 : i64, parameters = 1 : i64, vocabulary = 1 : i64}
  plan.mesh {first_layer = 0 : i64, layers = 1 : i64, pp = 1 : i64, rank = 0 : i64, stage = 0 : i64, tp = 1 : i64, tp_index = 0 : i64}
  plan.limits {kv_block = 1 : i64, max_batch = 1 : i64, max_sequence = 1 : i64, max_tokens = 1 : i64}
  plan.ledger {arena = 0 : i64, kv = 0 : i64, tables = 0 : i64, weights_loaded = 0 : i64, weights_mapped = 0 : i64}
}

// -----

// expected-error @+1 {{expected one 'plan.kv_pool', got 2}}
plan.rank @rank0 producer "p" target "cpu" passes [] {
  plan.model "m" family "f" {context = 1 : i64, hidden = 1 : i64, layers = 1 : i64, parameters = 1 : i64, vocabulary = 1 : i64}
  plan.mesh {first_layer = 0 : i64, layers = 1 : i64, pp = 1 : i64, rank = 0 : i64, stage = 0 : i64, tp = 1 : i64, tp_index = 0 : i64}
  plan.limits {kv_block = 1 : i64, max_batch = 1 : i64, max_sequence = 1 : i64, max_tokens = 1 : i64}
  plan.ledger {arena = 0 : i64, kv = 0 : i64, tables = 0 : i64, weights_loaded = 0 : i64, weights_mapped = 0 : i64}
  plan.kv_pool block 1 blocks 1 per_sequence 1
  plan.kv_pool block 1 blocks 1 per_sequence 1
}

// -----

// Instructions and buffers are of a program, all else is of a plan.
plan.rank @rank0 producer "p" target "cpu" passes [] {
  plan.model "m" family "f" {context = 1 : i64, hidden = 1 : i64, layers = 1 : i64, parameters = 1 : i64, vocabulary = 1 : i64}
  plan.mesh {first_layer = 0 : i64, layers = 1 : i64, pp = 1 : i64, rank = 0 : i64, stage = 0 : i64, tp = 1 : i64, tp_index = 0 : i64}
  plan.limits {kv_block = 1 : i64, max_batch = 1 : i64, max_sequence = 1 : i64, max_tokens = 1 : i64}
  plan.ledger {arena = 0 : i64, kv = 0 : i64, tables = 0 : i64, weights_loaded = 0 : i64, weights_mapped = 0 : i64}
  plan.kv_pool block 1 blocks 1 per_sequence 1
  // expected-error @+1 {{expects parent op 'plan.program'}}
  %x = plan.buffer "x" tokens [1] replicated : f32, 1 elements, 4 bytes at 0
}

// -----

// expected-error @+1 {{expects parent op 'plan.rank'}}
plan.program decode attributes {arena_bytes = 0 : i64, events = 0 : i64, max_outputs = 1 : i64, max_sequences = 1 : i64, max_tokens = 1 : i64, micro_batches = 1 : i64, queues = 1 : i64} {
}

// -----

plan.rank @rank0 producer "p" target "cpu" passes [] {
  plan.model "m" family "f" {context = 1 : i64, hidden = 1 : i64, layers = 1 : i64, parameters = 1 : i64, vocabulary = 1 : i64}
  plan.mesh {first_layer = 0 : i64, layers = 1 : i64, pp = 1 : i64, rank = 0 : i64, stage = 0 : i64, tp = 1 : i64, tp_index = 0 : i64}
  plan.limits {kv_block = 1 : i64, max_batch = 1 : i64, max_sequence = 1 : i64, max_tokens = 1 : i64}
  plan.ledger {arena = 0 : i64, kv = 0 : i64, tables = 0 : i64, weights_loaded = 0 : i64, weights_mapped = 0 : i64}
  plan.kv_pool block 1 blocks 1 per_sequence 1
  plan.program decode attributes {arena_bytes = 0 : i64, events = 0 : i64, max_outputs = 1 : i64, max_sequences = 1 : i64, max_tokens = 1 : i64, micro_batches = 1 : i64, queues = 1 : i64} {
    // expected-error @+1 {{expects parent op 'plan.rank'}}
    plan.group @tp [0]
  }
}

// -----

plan.rank @rank0 producer "p" target "cpu" passes [] {
  plan.model "m" family "f" {context = 1 : i64, hidden = 1 : i64, layers = 1 : i64, parameters = 1 : i64, vocabulary = 1 : i64}
  plan.mesh {first_layer = 0 : i64, layers = 1 : i64, pp = 1 : i64, rank = 0 : i64, stage = 0 : i64, tp = 1 : i64, tp_index = 0 : i64}
  plan.limits {kv_block = 1 : i64, max_batch = 1 : i64, max_sequence = 1 : i64, max_tokens = 1 : i64}
  plan.ledger {arena = 0 : i64, kv = 0 : i64, tables = 0 : i64, weights_loaded = 0 : i64, weights_mapped = 0 : i64}
  plan.kv_pool block 1 blocks 1 per_sequence 1
  // expected-note @+1 {{see existing symbol definition here}}
  plan.group @tp [0]
  // expected-error @+1 {{redefinition of symbol named 'tp'}}
  plan.group @tp [0]
}
