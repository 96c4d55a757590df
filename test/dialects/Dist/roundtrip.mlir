// RUN: distc-opt %s | distc-opt | FileCheck %s

// CHECK-LABEL: func.func @pairs
func.func @pairs(%x: tensor<?x8xf32>) -> tensor<?x8xf32> {
  // CHECK: %[[T:.*]] = dist.all_reduce_start %{{.*}} over tp sum : tensor<?x8xf32> -> {{.*}}<tensor<?x8xf32>>
  %t = dist.all_reduce_start %x over tp sum : tensor<?x8xf32> -> !dist.token<tensor<?x8xf32>>
  // CHECK: dist.wait %[[T]] : {{.*}}<tensor<?x8xf32>> -> tensor<?x8xf32>
  %y = dist.wait %t : !dist.token<tensor<?x8xf32>> -> tensor<?x8xf32>
  // CHECK: dist.send_start %{{.*}} to 1 over pp
  %s = dist.send_start %y to 1 over pp : tensor<?x8xf32> -> !dist.token
  dist.wait %s : !dist.token
  // CHECK: dist.recv_start from 0 over pp
  %r = dist.recv_start from 0 over pp : !dist.token<tensor<?x8xf32>>
  %z = dist.wait %r : !dist.token<tensor<?x8xf32>> -> tensor<?x8xf32>
  return %z : tensor<?x8xf32>
}
