// RUN: distc-opt %s -split-input-file -verify-diagnostics -split-regimes | FileCheck %s

llm.tensor @n [8] f32 at 0 bytes 32
llm.param @norm : tensor<8xf32> dims ["hidden"] from [#llm.source<@n[8] [0:8]>]

// The model's one function is gone.
// CHECK-NOT: @forward
// CHECK-LABEL: func.func @decode
// CHECK-SAME: (%{{.*}}: !llm.batch, %[[X:.*]]: tensor<?x8xf32>) -> tensor<?x8xf32> attributes {llm.regime = "decode"}
// CHECK-NEXT: %[[N:.*]] = llm.rms_norm %[[X]], @norm
// CHECK-NEXT: return %[[N]]
// CHECK-LABEL: func.func @prefill
// CHECK-SAME: attributes {llm.regime = "prefill"}
// CHECK-NEXT: %[[S:.*]] = llm.select_outputs
// CHECK-NEXT: %[[M:.*]] = llm.rms_norm %[[S]], @norm
// CHECK-NEXT: return %[[M]]
// CHECK-NOT: @forward
func.func @forward(%batch: !llm.batch, %x: tensor<?x8xf32>) -> tensor<?x8xf32> {
  %o = llm.select_outputs %x, %batch : tensor<?x8xf32>
  %n = llm.rms_norm %o, @norm eps 1.0e-5 : tensor<?x8xf32>
  return %n : tensor<?x8xf32>
}

// -----

// expected-error @+1 {{expected a function @forward}}
module {
  func.func @decode(%batch: !llm.batch) {
    return
  }
}
