module github.com/liboscar/liboscar/bench/bindings/go

go 1.24

require github.com/liboscar/liboscar/bindings/go v0.0.0

replace github.com/liboscar/liboscar/bindings/go => ../../../bindings/go
