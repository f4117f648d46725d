// Package conformance_test has no tests: it names what is built from here, so that `go mod tidy` keeps it.
package conformance_test

import (
	_ "github.com/onsi/gomega"
	_ "github.com/opencontainers/distribution-spec/conformance"
)
