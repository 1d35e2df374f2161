// Removes every pod of one containerd, by the runtime's own interface: containers end, and CNI takes back addresses,
// interfaces and packet filter rules. Kubelet must be stopped, else it makes them again.
package main

import (
	"context"
	"flag"
	"log"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func main() {
	endpoint := flag.String("endpoint", "", "unix:///path/of/containerd.sock")
	flag.Parse()
	connection, err := grpc.NewClient(*endpoint, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	runtime := cri.NewRuntimeServiceClient(connection)
	sandboxes, err := runtime.ListPodSandbox(ctx, &cri.ListPodSandboxRequest{})
	if err != nil {
		log.Fatal(err)
	}
	var group errgroup.Group
	for _, sandbox := range sandboxes.Items {
		group.Go(func() error {
			// Stopping is forceful here: a container gets no time to end by itself.
			if _, err := runtime.StopPodSandbox(ctx, &cri.StopPodSandboxRequest{PodSandboxId: sandbox.Id}); err != nil {
				return err
			}
			_, err := runtime.RemovePodSandbox(ctx, &cri.RemovePodSandboxRequest{PodSandboxId: sandbox.Id})
			return err
		})
	}
	if err := group.Wait(); err != nil {
		log.Fatal(err)
	}
}
