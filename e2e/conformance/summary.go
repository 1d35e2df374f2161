package conformance

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"

	"k8s.io/apimachinery/pkg/util/sets"
	"sigs.k8s.io/gateway-api/conformance/utils/suite"
	"sigs.k8s.io/gateway-api/pkg/features"
)

// Outcome is how a test ended.
type Outcome int

// The outcomes of a test.
const (
	Passed Outcome = iota
	Failed
	Skipped
)

// Summary counts the results of a run: by profile as the official report does, and by feature, which it does not. A
// test counts for every feature that it uses.
type Summary struct {
	lock        sync.Mutex
	profiles    []suite.ConformanceProfile
	byProfile   map[suite.ConformanceProfileName]*[2]counts // core, extended
	byFeature   map[features.FeatureName]*counts
	failed      []string
	skipped     []string
	unsupported map[features.FeatureName]int
	total       counts
}

type counts [3]int

func (c *counts) of() int { return c[Passed] + c[Failed] + c[Skipped] }

var profiles = []suite.ConformanceProfile{
	suite.GatewayHTTPConformanceProfile, suite.GatewayGRPCConformanceProfile, suite.GatewayTLSConformanceProfile,
	suite.GatewayTCPConformanceProfile, suite.GatewayUDPConformanceProfile,
}

// NewSummary is of a run with these profiles.
func NewSummary(names []suite.ConformanceProfileName) *Summary {
	s := &Summary{
		byProfile:   map[suite.ConformanceProfileName]*[2]counts{},
		byFeature:   map[features.FeatureName]*counts{},
		unsupported: map[features.FeatureName]int{},
	}
	for _, profile := range profiles {
		if slices.Contains(names, profile.Name) {
			s.profiles = append(s.profiles, profile)
			s.byProfile[profile.Name] = &[2]counts{}
		}
	}
	return s
}

// Record adds the outcome of one test. Tests of features that the implementation does not claim are no result.
func (s *Summary) Record(test suite.ConformanceTest, supported suite.FeaturesSet, outcome Outcome) {
	s.lock.Lock()
	defer s.lock.Unlock()
	if missing := sets.New(test.Features...).Difference(supported); outcome == Skipped && missing.Len() > 0 {
		for feature := range missing {
			s.unsupported[feature]++
		}
		return
	}
	s.total[outcome]++
	switch outcome {
	case Failed:
		s.failed = append(s.failed, test.ShortName)
	case Skipped:
		s.skipped = append(s.skipped, test.ShortName)
	}
	for _, feature := range test.Features {
		if s.byFeature[feature] == nil {
			s.byFeature[feature] = &counts{}
		}
		s.byFeature[feature][outcome]++
	}
	for _, profile := range s.profiles {
		uses := sets.New(test.Features...)
		switch {
		case profile.CoreFeatures.IsSuperset(uses):
			s.byProfile[profile.Name][0][outcome]++
		case profile.CoreFeatures.Union(profile.ExtendedFeatures).IsSuperset(uses):
			s.byProfile[profile.Name][1][outcome]++
		}
	}
}

// String is a text for people.
func (s *Summary) String() string {
	s.lock.Lock()
	defer s.lock.Unlock()
	var text strings.Builder
	if s.total.of() == 0 {
		return "No test ran.\n"
	}
	table := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "profile\tcore passed\textended passed\tfailed\tskipped")
	for _, profile := range s.profiles {
		core, extended := &s.byProfile[profile.Name][0], &s.byProfile[profile.Name][1]
		fmt.Fprintf(table, "%s\t%d of %d\t%d of %d\t%d\t%d\n", profile.Name, core[Passed], core.of(), extended[Passed], extended.of(),
			core[Failed]+extended[Failed], core[Skipped]+extended[Skipped])
	}
	fmt.Fprintf(table, "all tests\t%d of %d\t\t%d\t%d\n", s.total[Passed], s.total.of(), s.total[Failed], s.total[Skipped])
	table.Flush()

	fmt.Fprintln(table, "\nfeature\tpassed\tfailed\tskipped")
	for _, feature := range names(s.byFeature) {
		count := s.byFeature[feature]
		fmt.Fprintf(table, "%s\t%d of %d\t%d\t%d\n", feature, count[Passed], count.of(), count[Failed], count[Skipped])
	}
	table.Flush()

	if len(s.unsupported) > 0 {
		fmt.Fprintln(table, "\nfeature not claimed\ttests that need it")
		for _, feature := range names(s.unsupported) {
			fmt.Fprintf(table, "%s\t%d\n", feature, s.unsupported[feature])
		}
		table.Flush()
	}
	list(&text, "Failed", s.failed)
	list(&text, "Skipped", s.skipped)
	return text.String()
}

// list names the tests, as many as somebody would read.
func list(text *strings.Builder, title string, tests []string) {
	if len(tests) == 0 {
		return
	}
	slices.Sort(tests)
	fmt.Fprintf(text, "\n%s (%d): ", title, len(tests))
	if len(tests) > 40 {
		tests = append(slices.Clone(tests[:40]), "…")
	}
	fmt.Fprintln(text, strings.Join(tests, ", "))
}

func names[V any](of map[features.FeatureName]V) []features.FeatureName {
	keys := make([]features.FeatureName, 0, len(of))
	for key := range of {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}
