module github.com/liboscar/liboscar/bindings/go

go 1.24
