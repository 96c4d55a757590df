// RUN: distc-opt %s -split-input-file -verify-diagnostics

func.func @dropped(%x: tensor<?x8xf32>) {
  // expected-error @+1 {{starts a communication that nothing waits for}}
  %t = "dist.all_reduce_start"(%x) {group = #dist<group tp>, reduction = #dist<reduction sum>} : (tensor<?x8xf32>) -> !dist.token<tensor<?x8xf32>>
  return
}

// -----

func.func @twice(%x: tensor<?x8xf32>) {
  // expected-error @+1 {{is waited for 2 times, expected once}}
  %t = "dist.all_reduce_start"(%x) {group = #dist<group tp>, reduction = #dist<reduction sum>} : (tensor<?x8xf32>) -> !dist.token<tensor<?x8xf32>>
  %a = "dist.wait"(%t) : (!dist.token<tensor<?x8xf32>>) -> tensor<?x8xf32>
  %b = "dist.wait"(%t) : (!dist.token<tensor<?x8xf32>>) -> tensor<?x8xf32>
  return
}
