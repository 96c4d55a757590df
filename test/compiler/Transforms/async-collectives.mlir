// RUN: distc-opt %s -split-input-file -verify-diagnostics --pass-pipeline='builtin.module(func.func(async-collectives))' | FileCheck %s --implicit-check-not=shard.all --implicit-check-not=shard.reduce

shard.grid @mesh(shape = 1x2)
// CHECK-LABEL: func.func @collectives
// CHECK-SAME: (%[[X:.*]]: tensor<?x8xf32>)
// CHECK-NEXT: %[[T:.*]] = dist.all_reduce_start %[[X]] over tp sum : tensor<?x8xf32> -> {{.*}}<tensor<?x8xf32>>
// CHECK-NEXT: %[[Y:.*]] = dist.wait %[[T]]
// CHECK-NEXT: %[[U:.*]] = dist.all_gather_start %[[Y]] over tp
// CHECK-NEXT: %[[Z:.*]] = dist.wait %[[U]]
// CHECK-NEXT: %[[S:.*]] = llm.add %[[Y]], %[[Z]]
// CHECK-NEXT: return %[[S]]
func.func @collectives(%x: tensor<?x8xf32>) -> tensor<?x8xf32> {
  %y = shard.all_reduce %x on @mesh grid_axes = [1] : tensor<?x8xf32> -> tensor<?x8xf32>
  %z = shard.all_gather %y on @mesh grid_axes = [1] gather_axis = 0 : tensor<?x8xf32> -> tensor<?x8xf32>
  %s = llm.add %y, %z : tensor<?x8xf32>
  return %s : tensor<?x8xf32>
}

// Scattered rows, and the whole made of them again.
// CHECK-LABEL: func.func @rows
// CHECK-SAME: (%[[X:.*]]: tensor<?x8xf32>)
// CHECK-NEXT: %[[T:.*]] = dist.reduce_scatter_start %[[X]] over tp sum : tensor<?x8xf32> -> {{.*}}<tensor<?x8xf32, #shard<axisarray{{\[}}[1]]>>>
// CHECK-NEXT: %[[Y:.*]] = dist.wait %[[T]] : {{.*}} -> tensor<?x8xf32, #shard<axisarray{{\[}}[1]]>>
// CHECK-NEXT: %[[U:.*]] = dist.all_gather_start %[[Y]] over tp : tensor<?x8xf32, #shard<axisarray{{\[}}[1]]>> -> {{.*}}<tensor<?x8xf32>>
// CHECK-NEXT: %[[Z:.*]] = dist.wait %[[U]]
// CHECK-NEXT: return %[[Z]]
func.func @rows(%x: tensor<?x8xf32>) -> tensor<?x8xf32> {
  %y = shard.reduce_scatter %x on @mesh grid_axes = [1] scatter_axis = 0 : tensor<?x8xf32> -> tensor<?x8xf32, #shard<axisarray[[1]]>>
  %z = shard.all_gather %y on @mesh grid_axes = [1] gather_axis = 0 : tensor<?x8xf32, #shard<axisarray[[1]]>> -> tensor<?x8xf32>
  return %z : tensor<?x8xf32>
}

// Communication between stages is in pairs already.
// CHECK-LABEL: func.func @stages
// CHECK-NEXT: dist.recv_start
// CHECK-NEXT: dist.wait
// CHECK-NEXT: return
func.func @stages() {
  %r = dist.recv_start from 0 over pp : !dist.token<tensor<?x8xf32>>
  %z = dist.wait %r : !dist.token<tensor<?x8xf32>> -> tensor<?x8xf32>
  return
}

// -----

shard.grid @mesh(shape = 1x2)
func.func @maximum(%x: tensor<?x8xf32>) -> tensor<?x8xf32> {
  // expected-error @+1 {{cannot be made asynchronous: expected a sum, whole or scattered by rows, or a gather of rows, over grid axis 1}}
  %y = shard.all_reduce %x on @mesh grid_axes = [1] reduction = max : tensor<?x8xf32> -> tensor<?x8xf32>
  return %y : tensor<?x8xf32>
}

// -----

shard.grid @mesh(shape = 2x2)
func.func @other_axis(%x: tensor<?x8xf32>) -> tensor<?x8xf32> {
  // expected-error @+1 {{cannot be made asynchronous}}
  %y = shard.all_reduce %x on @mesh grid_axes = [0] : tensor<?x8xf32> -> tensor<?x8xf32>
  return %y : tensor<?x8xf32>
}

// -----

shard.grid @mesh(shape = 1x2)
func.func @columns(%x: tensor<?x8xf32>) -> tensor<?x16xf32> {
  // expected-error @+1 {{cannot be made asynchronous}}
  %y = shard.all_gather %x on @mesh grid_axes = [1] gather_axis = 1 : tensor<?x8xf32> -> tensor<?x16xf32>
  return %y : tensor<?x16xf32>
}

// -----

shard.grid @mesh(shape = 2x2)
func.func @gather_other_axis(%x: tensor<?x8xf32>) -> tensor<?x8xf32> {
  // expected-error @+1 {{cannot be made asynchronous}}
  %y = shard.all_gather %x on @mesh grid_axes = [0] gather_axis = 0 : tensor<?x8xf32> -> tensor<?x8xf32>
  return %y : tensor<?x8xf32>
}

// -----

shard.grid @mesh(shape = 1x2)
func.func @scattered_maximum(%x: tensor<?x8xf32>) -> tensor<?x8xf32, #shard<axisarray[[1]]>> {
  // expected-error @+1 {{cannot be made asynchronous}}
  %y = shard.reduce_scatter %x on @mesh grid_axes = [1] reduction = max scatter_axis = 0 : tensor<?x8xf32> -> tensor<?x8xf32, #shard<axisarray[[1]]>>
  return %y : tensor<?x8xf32, #shard<axisarray[[1]]>>
}

// -----

shard.grid @mesh(shape = 1x2)
func.func @scattered_columns(%x: tensor<?x8xf32>) -> tensor<?x4xf32> {
  // expected-error @+1 {{cannot be made asynchronous}}
  %y = shard.reduce_scatter %x on @mesh grid_axes = [1] scatter_axis = 1 : tensor<?x8xf32> -> tensor<?x4xf32>
  return %y : tensor<?x4xf32>
}

// -----

shard.grid @mesh(shape = 2x2)
func.func @scattered_over_other_axis(%x: tensor<?x8xf32>) -> tensor<?x8xf32> {
  // expected-error @+1 {{cannot be made asynchronous}}
  %y = shard.reduce_scatter %x on @mesh grid_axes = [0] scatter_axis = 0 : tensor<?x8xf32> -> tensor<?x8xf32>
  return %y : tensor<?x8xf32>
}
