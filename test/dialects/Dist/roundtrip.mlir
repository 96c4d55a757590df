// RUN: distc-opt %s | distc-opt | FileCheck %s
// RUN: distc-opt %s --mlir-print-op-generic | distc-opt | FileCheck %s

// CHECK-LABEL: func.func @pairs
func.func @pairs(%x: tensor<?x8xf32>) -> tensor<?x8xf32> {
  // CHECK: %[[T:.*]] = dist.all_reduce_start %{{.*}} over tp sum : tensor<?x8xf32> -> {{.*}}<tensor<?x8xf32>>
  %t = dist.all_reduce_start %x over tp sum : tensor<?x8xf32> -> !dist.token<tensor<?x8xf32>>
  // CHECK: %[[Y:.*]] = dist.wait %[[T]] : {{.*}}<tensor<?x8xf32>> -> tensor<?x8xf32>
  %y = dist.wait %t : !dist.token<tensor<?x8xf32>> -> tensor<?x8xf32>
  // CHECK: %[[M:.*]] = dist.all_reduce_start %[[Y]] over pp max
  %m = dist.all_reduce_start %y over pp max : tensor<?x8xf32> -> !dist.token<tensor<?x8xf32>>
  // CHECK: %[[G:.*]] = dist.all_gather_start %[[Y]] over tp : tensor<?x8xf32> -> {{.*}}<tensor<?x8xf32>>
  %g = dist.all_gather_start %y over tp : tensor<?x8xf32> -> !dist.token<tensor<?x8xf32>>
  // Two at a time, waited for in another order than started.
  // CHECK: dist.wait %[[G]]
  // CHECK: dist.wait %[[M]]
  %h = dist.wait %g : !dist.token<tensor<?x8xf32>> -> tensor<?x8xf32>
  %n = dist.wait %m : !dist.token<tensor<?x8xf32>> -> tensor<?x8xf32>
  // CHECK: %[[S:.*]] = dist.send_start %{{.*}} to 1 over pp : tensor<?x8xf32> -> !dist.token
  %s = dist.send_start %n to 1 over pp : tensor<?x8xf32> -> !dist.token
  // CHECK: dist.wait %[[S]] : !dist.token{{$}}
  dist.wait %s : !dist.token
  // CHECK: %[[R:.*]] = dist.recv_start from 2 over pp : <tensor<?x8xf32>>
  %r = dist.recv_start from 2 over pp : !dist.token<tensor<?x8xf32>>
  // CHECK: %[[Z:.*]] = dist.wait %[[R]]
  %z = dist.wait %r : !dist.token<tensor<?x8xf32>> -> tensor<?x8xf32>
  // CHECK: %[[P:.*]] = dist.reduce_scatter_start %[[Z]] over tp sum : tensor<?x8xf32> -> {{.*}}<tensor<?x8xf32, #shard<axisarray{{\[}}[1]]>>>
  %p = dist.reduce_scatter_start %z over tp sum : tensor<?x8xf32> -> !dist.token<tensor<?x8xf32, #shard<axisarray[[1]]>>>
  %q = dist.wait %p : !dist.token<tensor<?x8xf32, #shard<axisarray[[1]]>>> -> tensor<?x8xf32, #shard<axisarray[[1]]>>
  // CHECK: dist.all_gather_start %{{.*}} over tp : tensor<?x8xf32, #shard<axisarray{{\[}}[1]]>> -> {{.*}}<tensor<?x8xf32>>
  %v = dist.all_gather_start %q over tp : tensor<?x8xf32, #shard<axisarray[[1]]>> -> !dist.token<tensor<?x8xf32>>
  %w = dist.wait %v : !dist.token<tensor<?x8xf32>> -> tensor<?x8xf32>
  // CHECK: %[[A:.*]] = dist.chunk %[[Z]] 0 of 2 : tensor<?x8xf32>
  %c0 = dist.chunk %z 0 of 2 : tensor<?x8xf32>
  // CHECK: %[[B:.*]] = dist.chunk %[[Z]] 1 of 2
  %c1 = dist.chunk %z 1 of 2 : tensor<?x8xf32>
  // CHECK: dist.concat %[[A]], %[[B]] : tensor<?x8xf32>
  %c = dist.concat %c0, %c1 : tensor<?x8xf32>
  // CHECK: return %[[Z]]
  return %z : tensor<?x8xf32>
}
