module github.com/liboscar/liboscar/examples/go/quickstart

go 1.24

require github.com/liboscar/liboscar/bindings/go v0.0.0

// The binding of this very tree. A program of your own takes a release: go get github.com/liboscar/liboscar/bindings/go
replace github.com/liboscar/liboscar/bindings/go => ../../../bindings/go
