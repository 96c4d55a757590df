// RUN: distc-opt %s | distc-opt | FileCheck %s

// CHECK: llm.file @file0 "model.safetensors" size 4096 header 256 hash 7
llm.file @file0 "model.safetensors" size 4096 header 256 hash 7
llm.tensor @w [12, 8] bf16 in @file0 at 256 bytes 192
llm.tensor @n [8] f32 at 0 bytes 32
// CHECK: llm.rope_table @rope [1.000000e+00, 1.000000e-01] magnitude 1.000000e+00
llm.rope_table @rope [1.0, 0.1] magnitude 1.0
// CHECK: llm.param @q : tensor<4x4x8xbf16> dims ["heads", "head_dim", "hidden"]
// CHECK-SAME: from [#llm.source<@w[3, 4, 8] [0:3, zero:1] [0:4] [0:8]>]
llm.param @q : tensor<4x4x8xbf16> dims ["heads", "head_dim", "hidden"] from [#llm.source<@w[3, 4, 8] [0:3, zero:1] [0:4] [0:8]>]
llm.param @norm : tensor<8xf32> dims ["hidden"] from [#llm.source<@n[8] [0:8]>]
// CHECK: llm.kv_cache @kv layer 0 : !llm.kv_cache<heads 2, dim 4, f32>
llm.kv_cache @kv layer 0 : !llm.kv_cache<heads 2, dim 4, f32>

// CHECK-LABEL: func.func @ops
func.func @ops(%batch: !llm.batch, %x: tensor<?x8xf32>, %k: tensor<?x2x4xf32>) -> tensor<?x4x4xf32> {
  // CHECK: llm.rms_norm %{{.*}}, @norm eps 9.99999974E-6 : tensor<?x8xf32>
  %n = llm.rms_norm %x, @norm eps 1.0e-5 : tensor<?x8xf32>
  // CHECK: llm.linear %{{.*}}, @q : tensor<?x8xf32> -> tensor<?x4x4xf32>
  %q = llm.linear %n, @q : tensor<?x8xf32> -> tensor<?x4x4xf32>
  // CHECK: llm.rope %{{.*}}, %{{.*}}, @rope half : tensor<?x4x4xf32>
  %r = llm.rope %q, %batch, @rope half : tensor<?x4x4xf32>
  // CHECK: llm.kv_append %{{.*}}, %{{.*}}, %{{.*}}, @kv : tensor<?x2x4xf32>
  llm.kv_append %k, %k, %batch, @kv : tensor<?x2x4xf32>
  // CHECK: llm.attention %{{.*}}, %{{.*}}, @kv scale 5.000000e-01 : tensor<?x4x4xf32>
  %a = llm.attention %r, %batch, @kv scale 0.5 : tensor<?x4x4xf32>
  return %a : tensor<?x4x4xf32>
}
