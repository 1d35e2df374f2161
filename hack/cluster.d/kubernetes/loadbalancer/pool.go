package main

import (
	"errors"
	"fmt"
	"net/netip"

	core "k8s.io/api/core/v1"
)

// Pool is what the assigner may give away: an IPv4 network. Addresses from Reserved on are given only to a Service that asks for one by
// spec.loadBalancerIP, so that a test can name an address that is certainly free.
type Pool struct {
	Network  netip.Prefix
	Reserved netip.Addr
	last     netip.Addr
}

// Ours says whether the assigner serves this Service: another class means another implementation.
func Ours(service *core.Service) bool {
	return service.Spec.Type == core.ServiceTypeLoadBalancer && service.Spec.LoadBalancerClass == nil &&
		service.DeletionTimestamp == nil
}

// Choose returns the address that the Service should have, given the addresses that other Services hold. A Service
// keeps what it has. Addresses go round, so that one is not used again right after it became free.
func (p *Pool) Choose(service *core.Service, used map[netip.Addr]string) (netip.Addr, error) {
	if asked := service.Spec.LoadBalancerIP; asked != "" {
		address, err := netip.ParseAddr(asked)
		switch {
		case err != nil:
			return netip.Addr{}, fmt.Errorf("spec.loadBalancerIP: %w", err)
		case !p.holds(address):
			return netip.Addr{}, fmt.Errorf("spec.loadBalancerIP: %s is not one of the addresses in %s", asked, p.Network)
		case used[address] != "":
			return netip.Addr{}, fmt.Errorf("spec.loadBalancerIP: Service %s has %s", used[address], asked)
		}
		return address, nil
	}
	if has, ok := current(service); ok && p.holds(has) && used[has] == "" {
		return has, nil
	}
	first := p.Network.Masked().Addr().Next()
	for address, tries := p.last, 1<<(32-p.Network.Bits()); tries > 0; tries-- {
		if address = address.Next(); !p.holds(address) || !address.Less(p.Reserved) {
			address = first
		}
		if used[address] == "" {
			p.last = address
			return address, nil
		}
	}
	return netip.Addr{}, errors.New("every address of the pool is in use")
}

// holds leaves out the network's own address and the last one, its broadcast address.
func (p *Pool) holds(address netip.Addr) bool {
	return p.Network.Contains(address) && address != p.Network.Masked().Addr() && p.Network.Contains(address.Next())
}

func current(service *core.Service) (netip.Addr, bool) {
	ingress := service.Status.LoadBalancer.Ingress
	if len(ingress) != 1 {
		return netip.Addr{}, false
	}
	address, err := netip.ParseAddr(ingress[0].IP)
	return address, err == nil
}
