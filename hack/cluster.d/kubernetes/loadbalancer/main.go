// Gives Services of type LoadBalancer an address from a pool, as a cloud's controller would: it writes
// status.loadBalancer.ingress, and kube-proxy serves the address. The node routes the pool to itself (see
// hack/lib/cluster/network.sh), so nothing has to be announced to anybody.
//
// A Service with a loadBalancerClass gets nothing: that is how a test asks for a load balancer that never comes.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"log"
	"net/netip"
	"os/signal"
	"slices"
	"syscall"
	"time"

	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
)

func main() {
	kubeconfig := flag.String("kubeconfig", "", "how to reach the API server")
	network := flag.String("pool", "10.97.0.0/24", "the addresses to give away")
	reserved := flag.String("reserved-from", "10.97.0.200", "from here on, only to Services that ask for the address")
	flag.Parse()

	config, err := clientcmd.BuildConfigFromFlags("", *kubeconfig)
	check(err)
	client, err := kubernetes.NewForConfig(config)
	check(err)
	pool := &Pool{}
	pool.Network, err = netip.ParsePrefix(*network)
	check(err)
	pool.Reserved, err = netip.ParseAddr(*reserved)
	check(err)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	run(ctx, client, pool)
}

// run looks at all Services whenever one changes. There are never many here, and whoever asks for an address in vain
// gets it as soon as another Service gives it back.
func run(ctx context.Context, client kubernetes.Interface, pool *Pool) {
	factory := informers.NewSharedInformerFactory(client, 0)
	services := factory.Core().V1().Services()
	changed := make(chan struct{}, 1)
	wake := func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
	_, err := services.Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { wake() },
		UpdateFunc: func(any, any) { wake() },
		DeleteFunc: func(any) { wake() },
	})
	check(err)
	factory.Start(ctx.Done())
	factory.WaitForCacheSync(ctx.Done())
	log.Printf("giving away addresses of %s", pool.Network)
	refused := map[types.UID]string{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-changed:
			all, err := services.Lister().List(labels.Everything())
			check(err)
			if !assign(ctx, client, pool, all, refused) {
				time.AfterFunc(time.Second, wake)
			}
		}
	}
}

// assign writes the addresses that differ from what they should be; false asks to be called again.
func assign(ctx context.Context, client kubernetes.Interface, pool *Pool, all []*core.Service, refused map[types.UID]string) bool {
	// Oldest first: who has an address keeps it against a newer Service that asks for the same.
	slices.SortFunc(all, func(a, b *core.Service) int {
		return a.CreationTimestamp.Compare(b.CreationTimestamp.Time)
	})
	holders := map[netip.Addr]types.UID{}
	names := map[netip.Addr]string{}
	for _, service := range all {
		if address, ok := current(service); ok && Ours(service) && holders[address] == "" {
			holders[address], names[address] = service.UID, service.Namespace+"/"+service.Name
		}
	}
	complete := true
	for _, service := range all {
		name := service.Namespace + "/" + service.Name
		has, _ := current(service)
		var want netip.Addr
		if Ours(service) {
			others := map[netip.Addr]string{}
			for address, holder := range holders {
				if holder != service.UID {
					others[address] = names[address]
				}
			}
			var err error
			want, err = pool.Choose(service, others)
			if err != nil && refused[service.UID] != err.Error() {
				refused[service.UID] = err.Error()
				log.Printf("%s gets no address: %v", name, err)
			}
		} else if service.Spec.Type == core.ServiceTypeLoadBalancer {
			continue // of another class, or on its way out
		}
		if want == has && (want.IsValid() || len(service.Status.LoadBalancer.Ingress) == 0) {
			continue
		}
		if err := write(ctx, client, service, want); err != nil {
			log.Printf("%s: %v; trying again", name, err)
			complete = false
			continue
		}
		if want.IsValid() {
			log.Printf("%s gets %s", name, want)
		} else {
			log.Printf("%s loses its address", name)
		}
		if holders[has] == service.UID {
			delete(holders, has)
		}
		if want.IsValid() {
			holders[want], names[want] = service.UID, name
		}
	}
	return complete
}

func write(ctx context.Context, client kubernetes.Interface, service *core.Service, address netip.Addr) error {
	ingress := []core.LoadBalancerIngress{}
	if address.IsValid() {
		ingress = append(ingress, core.LoadBalancerIngress{IP: address.String()})
	}
	patch, err := json.Marshal(map[string]any{
		// A patch of a version that is gone is refused: the cache was behind, and the next event looks again.
		"metadata": map[string]any{"resourceVersion": service.ResourceVersion},
		"status":   map[string]any{"loadBalancer": map[string]any{"ingress": ingress}},
	})
	if err != nil {
		return err
	}
	_, err = client.CoreV1().Services(service.Namespace).Patch(ctx, service.Name, types.MergePatchType, patch, meta.PatchOptions{}, "status")
	return err
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
