package conformance

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/util/sets"
	"sigs.k8s.io/gateway-api/conformance/utils/suite"
	"sigs.k8s.io/gateway-api/pkg/features"
)

func TestSummary(t *testing.T) {
	test := func(name string, uses ...features.FeatureName) suite.ConformanceTest {
		return suite.ConformanceTest{ShortName: name, Features: uses}
	}
	supported := sets.New(features.SupportGateway, features.SupportHTTPRoute, features.SupportHTTPRouteCORS)
	s := NewSummary([]suite.ConformanceProfileName{suite.GatewayHTTPConformanceProfileName})
	s.Record(test("Core", features.SupportGateway, features.SupportHTTPRoute), supported, Passed)
	s.Record(test("Bad", features.SupportGateway), supported, Failed)
	s.Record(test("Extended", features.SupportGateway, features.SupportHTTPRouteCORS), supported, Passed)
	s.Record(test("Unclaimed", features.SupportGateway, features.SupportUDPRoute), supported, Skipped)
	s.Record(test("LeftOut", features.SupportGateway), supported, Skipped)

	want := `profile       core passed  extended passed  failed  skipped
GATEWAY-HTTP  1 of 3       1 of 1           1       1
all tests     2 of 4                        1       1

feature        passed  failed  skipped
Gateway        2 of 4  1       1
HTTPRoute      1 of 1  0       0
HTTPRouteCORS  1 of 1  0       0

feature not claimed  tests that need it
UDPRoute             1

Failed (1): Bad

Skipped (1): LeftOut
`
	if got := s.String(); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

func TestSummaryOfNothing(t *testing.T) {
	if got := NewSummary(nil).String(); !strings.Contains(got, "No test ran") {
		t.Error(got)
	}
}
