package main

import (
	"net/netip"
	"testing"

	core "k8s.io/api/core/v1"
)

func pool() *Pool {
	return &Pool{Network: netip.MustParsePrefix("10.97.0.0/29"), Reserved: netip.MustParseAddr("10.97.0.4")}
}

func service(asked, has string) *core.Service {
	s := &core.Service{Spec: core.ServiceSpec{Type: core.ServiceTypeLoadBalancer, LoadBalancerIP: asked}}
	if has != "" {
		s.Status.LoadBalancer.Ingress = []core.LoadBalancerIngress{{IP: has}}
	}
	return s
}

func TestChoose(t *testing.T) {
	cases := []struct {
		name, asked, has string
		used             []string
		want             string // empty: refused
	}{
		{name: "the first free address", want: "10.97.0.1"},
		{name: "past what others hold", used: []string{"10.97.0.1"}, want: "10.97.0.2"},
		{name: "keeps what it has", has: "10.97.0.3", want: "10.97.0.3"},
		{name: "gives up what another holds", has: "10.97.0.1", used: []string{"10.97.0.1"}, want: "10.97.0.2"},
		{name: "gives up an address of another network", has: "192.0.2.1", want: "10.97.0.1"},
		{name: "never a reserved address unasked", used: []string{"10.97.0.1", "10.97.0.2", "10.97.0.3"}},
		{name: "a reserved address when asked", asked: "10.97.0.5", want: "10.97.0.5"},
		{name: "moves to what it asks for", asked: "10.97.0.5", has: "10.97.0.1", want: "10.97.0.5"},
		{name: "not what another holds", asked: "10.97.0.5", used: []string{"10.97.0.5"}},
		{name: "not outside the network", asked: "10.97.1.1"},
		{name: "not the broadcast address", asked: "10.97.0.7"},
		{name: "not a hostname", asked: "example.com"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			used := map[netip.Addr]string{}
			for _, address := range c.used {
				used[netip.MustParseAddr(address)] = "other/service"
			}
			got, err := pool().Choose(service(c.asked, c.has), used)
			if c.want == "" {
				if err == nil {
					t.Fatalf("got %s, want a refusal", got)
				}
				return
			}
			if err != nil || got.String() != c.want {
				t.Fatalf("got %v, %v; want %s", got, err, c.want)
			}
		})
	}
}

func TestAddressesGoRound(t *testing.T) {
	p := pool()
	var got []string
	for range 4 {
		address, err := p.Choose(service("", ""), nil)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, address.String())
	}
	want := []string{"10.97.0.1", "10.97.0.2", "10.97.0.3", "10.97.0.1"}
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("got %v, want %v", got, want)
		}
	}
}
