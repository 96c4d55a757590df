// RUN: distc-opt %s --canonicalize | FileCheck %s --implicit-check-not=dist.

// Communication that nobody reads still takes place, once for each start: other ranks are part of it.
// CHECK-LABEL: func.func @unused
// CHECK: %[[A:.*]] = dist.all_reduce_start
// CHECK-NEXT: dist.wait %[[A]]
// CHECK-NEXT: %[[B:.*]] = dist.all_reduce_start
// CHECK-NEXT: dist.wait %[[B]]
// CHECK-NEXT: %[[R:.*]] = dist.recv_start
// CHECK-NEXT: dist.wait %[[R]]
// CHECK-NEXT: return
func.func @unused(%x: tensor<?x8xf32>) {
  %a = dist.all_reduce_start %x over tp sum : tensor<?x8xf32> -> !dist.token<tensor<?x8xf32>>
  %y = dist.wait %a : !dist.token<tensor<?x8xf32>> -> tensor<?x8xf32>
  %b = dist.all_reduce_start %x over tp sum : tensor<?x8xf32> -> !dist.token<tensor<?x8xf32>>
  %z = dist.wait %b : !dist.token<tensor<?x8xf32>> -> tensor<?x8xf32>
  %r = dist.recv_start from 0 over pp : !dist.token<tensor<?x8xf32>>
  %w = dist.wait %r : !dist.token<tensor<?x8xf32>> -> tensor<?x8xf32>
  return
}
