// RUN: distc-opt %s --canonicalize | FileCheck %s

llm.tensor @n [8] f32 at 0 bytes 32
llm.param @norm : tensor<8xf32> dims ["hidden"] from [#llm.source<@n[8] [0:8]>]
llm.kv_cache @kv layer 0 : !llm.kv_cache<heads 2, dim 4, f32>

// Every row of a decode program is an output.
// CHECK-LABEL: func.func @decode
// CHECK-SAME: (%{{.*}}: !llm.batch, %[[X:.*]]: tensor<?x8xf32>)
// CHECK-NOT: llm.select_outputs
// CHECK: llm.rms_norm %[[X]]
func.func @decode(%batch: !llm.batch, %x: tensor<?x8xf32>) -> tensor<?x8xf32> attributes {llm.regime = "decode"} {
  %o = llm.select_outputs %x, %batch : tensor<?x8xf32>
  %n = llm.rms_norm %o, @norm eps 1.0e-5 : tensor<?x8xf32>
  return %n : tensor<?x8xf32>
}

// CHECK-LABEL: func.func @prefill
// CHECK: %[[O:.*]] = llm.select_outputs
// CHECK: llm.rms_norm %[[O]]
func.func @prefill(%batch: !llm.batch, %x: tensor<?x8xf32>) -> tensor<?x8xf32> attributes {llm.regime = "prefill"} {
  %o = llm.select_outputs %x, %batch : tensor<?x8xf32>
  %n = llm.rms_norm %o, @norm eps 1.0e-5 : tensor<?x8xf32>
  return %n : tensor<?x8xf32>
}

// Before the regimes are apart it is not known.
// CHECK-LABEL: func.func @forward
// CHECK: llm.select_outputs
func.func @forward(%batch: !llm.batch, %x: tensor<?x8xf32>) -> tensor<?x8xf32> {
  %o = llm.select_outputs %x, %batch : tensor<?x8xf32>
  return %o : tensor<?x8xf32>
}

// An unused value is dead, writing to a cache is not; a read of the cache stays behind the write.
// CHECK-LABEL: func.func @dead
// CHECK-NOT: llm.add
// CHECK: llm.kv_append
// CHECK-NEXT: %[[A:.*]] = llm.attention
// CHECK-NEXT: return %[[A]]
func.func @dead(%batch: !llm.batch, %q: tensor<?x2x4xf32>) -> tensor<?x2x4xf32> {
  %unused = llm.add %q, %q : tensor<?x2x4xf32>
  llm.kv_append %q, %q, %batch, @kv : tensor<?x2x4xf32>
  %a = llm.attention %q, %batch, @kv scale 0.5 : tensor<?x2x4xf32>
  return %a : tensor<?x2x4xf32>
}
