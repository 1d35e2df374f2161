// Package conformance runs the official Gateway API conformance suite against the cluster of $KUBECONFIG.
// Use hack/conformance, which prepares the cluster and knows the flags.
package conformance

import (
	"flag"
	"fmt"
	"os"
	"testing"

	"sigs.k8s.io/gateway-api/conformance"
	"sigs.k8s.io/gateway-api/conformance/utils/suite"
)

var summaryOutput = flag.String("summary-output", "", "The file where to write the summary")

func TestGatewayAPIConformance(t *testing.T) {
	options := conformance.DefaultOptions(t)
	summary := NewSummary(options.ConformanceProfiles)
	options.Hook = func(t *testing.T, test suite.ConformanceTest, s *suite.ConformanceTestSuite) {
		// The suite goes through all tests even when it was asked for one.
		if options.RunTest == "" || options.RunTest == test.ShortName {
			summary.Record(test, s.SupportedFeatures, outcome(t))
		}
	}
	// Parallel tests end after this function has returned, and clean-ups run after them.
	t.Cleanup(func() {
		if *summaryOutput == "" {
			fmt.Print(summary)
		} else if err := os.WriteFile(*summaryOutput, []byte(summary.String()), 0o600); err != nil {
			t.Error(err)
		}
	})
	conformance.RunConformanceWithOptions(t, options)
}

func outcome(t *testing.T) Outcome {
	switch {
	case t.Failed():
		return Failed
	case t.Skipped():
		return Skipped
	default:
		return Passed
	}
}
